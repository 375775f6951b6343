"""A campaign over all targets, one process each: `make fuzz` (`RUNS=` inputs of the decoder, `SECONDS=` of every other).

An input of the decoder is one record, judged alone and once more in a batch with others. Coverage counts edges of our
own code; memory is the peak of the process, model and libraries included. A finding is printed with its traceback, and
its input is kept.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.goals import Goals, report
from tests.fuzz.targets import TARGETS

DECODER_RUNS = 1_000_000
OTHER_SECONDS = 60
PROCESSES = 2
# Five times what a process needs before the first input.
MOST_MEMORY_MB = 500
KEPT = Path("out") / "fuzz"
GOALS: Goals = {
    "decoder_inputs": lambda value: value >= DECODER_RUNS,
    "escaped": lambda value: value == 0,
    "peak_memory_mb": lambda value: value <= MOST_MEMORY_MB,
}


@dataclass(frozen=True)
class Outcome:
    """What became of one target.

    Attributes:
        target: its name.
        inputs: how many it took.
        edges: of our code that were reached.
        corpus: inputs that reached something new.
        seconds: wall time of the fuzzing itself.
        memory_mb: peak resident memory of the process, in MiB.
        finding: the end of its output when it did not end well, else None.
    """

    target: str
    inputs: int
    edges: int
    corpus: int
    seconds: int
    memory_mb: int
    finding: str | None


def main() -> int:
    """Runs the targets, two at a time; returns 0 when every goal is met."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument(
        "--runs", type=int, default=DECODER_RUNS, help="inputs of the decoder, half of them for each seed"
    )
    parser.add_argument("--seconds", type=int, default=OTHER_SECONDS, help="for each of the other targets")
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET", help=", ".join(TARGETS))
    arguments = parser.parse_args()
    campaigns = [(name, f"-max_total_time={arguments.seconds}", 1) for name in arguments.targets if name != "decoder"]
    if "decoder" in arguments.targets:
        campaigns = [("decoder", f"-runs={(arguments.runs + 1) // 2}", seed) for seed in (1, 2)] + campaigns
    print(
        f"{'target':<10} {'inputs':>9} {'edges':>6} {'corpus':>6} {'seconds':>7} {'peak MiB':>8}  finding", flush=True
    )
    with ThreadPoolExecutor(PROCESSES) as processes:
        running = [processes.submit(fuzz, name, limit, seed=seed) for name, limit, seed in campaigns]
        outcomes = [_shown(done.result()) for done in as_completed(running)]
    inputs: Counter[str] = Counter()
    for outcome in outcomes:
        inputs[f"{outcome.target}_inputs"] += outcome.inputs
    figures = dict(inputs) | {
        "escaped": sum(outcome.finding is not None for outcome in outcomes),
        "peak_memory_mb": max(outcome.memory_mb for outcome in outcomes),
    }
    return report(figures, {key: holds for key, holds in GOALS.items() if key in figures})


def _shown(outcome: Outcome) -> Outcome:
    """Prints a line of the table."""
    print(
        f"{outcome.target:<10} {outcome.inputs:>9} {outcome.edges:>6} {outcome.corpus:>6} {outcome.seconds:>7} "
        f"{outcome.memory_mb:>8}  {outcome.finding or 'none'}",
        flush=True,
    )
    return outcome


def fuzz(target: str, limit: str, *, seed: int = 1) -> Outcome:
    """Fuzzes one target in a process of its own, whose end is its verdict."""
    with tempfile.TemporaryDirectory(prefix="ganwatch-fuzz-") as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.campaign", target, folder, limit, f"-seed={seed}"],
            capture_output=True, check=False, env=os.environ | {"POLARS_MAX_THREADS": "1", "TMPDIR": folder},
        )  # fmt: skip
        output = done.stderr.decode(errors="replace")
        finding = (
            None if done.returncode == 0 else _keep(target, Path(folder), output + done.stdout.decode(errors="replace"))
        )
    return Outcome(
        target=target,
        inputs=_last(r"number_of_executed_units:\s+(\d+)", output),
        edges=_last(r"cov: (\d+)", output),
        corpus=_last(r"corp: (\d+)", output),
        seconds=_last(r"in (\d+) second", output),
        memory_mb=_last(r"peak_rss_mb:\s+(\d+)", output),
        finding=finding,
    )


def _last(pattern: str, output: str) -> int:
    found = re.findall(pattern, output)
    return int(found[-1]) if found else 0


def _keep(target: str, folder: Path, output: str) -> str:
    """Copies the offending input and the output to `out/fuzz`; returns the line that says what happened."""
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{target}.log").write_text(output)
    for artefact in folder.glob("*-*"):
        if artefact.is_file():
            shutil.copy(artefact, KEPT / f"{target}-{artefact.name}")
    lines = [line for line in output.splitlines() if re.match(r"\s*(\w+\.)*\w*(Error|Exception|ERROR)\b", line)]
    return f"{lines[0].strip() if lines else 'the process died'} (see {KEPT / f'{target}.log'})"


if __name__ == "__main__":
    sys.exit(main())
