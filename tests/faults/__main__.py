"""`make faults`: plays the rows one after another, prints the table, and one JSON object on the last line.

Exit status 1 when a row failed. A row that ends with an error has failed; the others are played all the same.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.faults.rows import ROWS, Row
from tests.faults.stage import Stage, open_stage
from tests.faults.table import Played, figures, markdown


def main(arguments: Sequence[str]) -> int:
    """Plays the chosen rows; 0 when all passed."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the broker and the daemons end with us
    started = time.monotonic()
    chosen = [row for row in ROWS if not options.rows or row.number in options.rows]
    played = []
    with tempfile.TemporaryDirectory(prefix="ganwatch-faults-") as name, open_stage(Path(name)) as stage:
        for seed in range(options.seeds):
            for row in chosen:
                played.append(play(row, stage, seed))
                _say(f"row {row.number}, seed {seed}, {played[-1].seconds:.0f} s: {row.fault}: {played[-1].verdict}")
    if not options.json:
        _say(f"\n{markdown(played)}\n")
    print(json.dumps(figures(played, time.monotonic() - started)))
    return 0 if all(row.passed for row in played) else 1


def play(row: Row, stage: Stage, seed: int) -> Played:
    """One row; what it raises is its verdict."""
    started = time.monotonic()
    outcome, error = None, ""
    try:
        outcome = row.play(stage.cleared(f"row-{row.number}-{seed}"), seed)
    except Exception as problem:
        traceback.print_exc(file=sys.stderr)
        error = f"{type(problem).__name__}: {problem}".splitlines()[0][:300]
    return Played(row.number, row.fault, seed, time.monotonic() - started, outcome, error)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--seeds", type=int, default=1, help="how often the table is played, each time with other choices"
    )
    parser.add_argument("--rows", type=_numbers, default=(), help="which, e.g. 1,4,8; all by default")
    parser.add_argument("--json", action="store_true", help="only the object, without the table")
    return parser.parse_args(arguments)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def _say(sentence: str) -> None:
    print(sentence, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
