"""Fuzzes one target in this process: `python -m tests.fuzz.campaign TARGET FOLDER [libFuzzer options]`.

libFuzzer (Serebryany 2016) mutates the inputs whose coverage is new; atheris gives it that of our own Python code. It
ends the process at the first finding, and keeps the input in the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

SECONDS_AN_INPUT = 10
MEMORY_MB = 2048


def main() -> None:
    """Does not return."""
    name, folder, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["monitor"]):
        from tests.fuzz.targets import PLANTED, TARGETS
    target = (TARGETS | PLANTED)[name]
    seeds = Path(folder) / "seeds"
    seeds.mkdir()
    for number, seed in enumerate(target.seeds()):
        (seeds / f"{number:04}").write_bytes(seed[: target.max_bytes])
    tokens = Path(folder) / "tokens"
    tokens.write_text("".join(f'"{_escaped(token)}"\n' for token in target.tokens))
    limits = [f"-max_len={target.max_bytes}", f"-timeout={SECONDS_AN_INPUT}", f"-rss_limit_mb={MEMORY_MB}"]
    outputs = [f"-artifact_prefix={folder}/", f"-dict={tokens}", "-print_final_stats=1", "-close_fd_mask=0"]
    atheris.Setup([name, *limits, *outputs, *options, str(seeds)], target.start())
    atheris.Fuzz()


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in token)


if __name__ == "__main__":
    main()
