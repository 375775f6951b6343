"""All parts of the detection benchmark: tables as Markdown, the figures as one JSON object on the last line.

    python -m tests.benchmarks.detection [--quick] [--seeds 3] [--parts kdd99,adbench]

Exits with 1 when a goal is missed. Figures that an earlier run finished are taken from `.cache/detection`, unless code, data
or configuration have changed since; `--quick` computes everything anew, with few seeds and without the slowest parts.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.detection.bench import Bench
from tests.benchmarks.goals import report
from training.trainer import use_one_thread_an_operation

PARTS = (
    "kdd99",
    "paper",
    "train_command",
    "goad",
    "adbench",
    "smd",
    "mnist",
    "ablation",
    "contamination",
    "attribution",
    "determinism",
    "alert_rate",
)
QUICK_PARTS = ("kdd99", "train_command", "adbench", "mnist", "attribution", "determinism", "alert_rate")
CACHE = Path(".cache/detection")


def main() -> int:
    """Runs the parts, then judges all figures."""
    arguments = read_arguments(sys.argv[1:])
    use_one_thread_an_operation()
    cache = None if arguments.quick else CACHE
    bench = Bench(arguments.data, arguments.seeds, is_quick=arguments.quick, cache=cache)
    modules = [importlib.import_module(f"{__package__}.{name}") for name in arguments.parts]
    parts = [module.run(bench) for module in modules]
    figures = {key: value for part in parts for key, value in part.figures.items()}
    return report(figures, {key: goal for part in parts for key, goal in part.goals.items()})


def read_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What the command line says; a mistake there ends the process with code 2."""
    parser = argparse.ArgumentParser(
        "tests.benchmarks.detection", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few seeds, the fast parts, computed without the cache")
    parser.add_argument("--seeds", type=int, default=10, help="seeds of a part at most")
    parser.add_argument("--parts", help=f"some of {','.join(PARTS)}")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("GANWATCH_DATA"), help="folder of data sets; $GANWATCH_DATA"
    )
    arguments = parser.parse_args(argv)
    if arguments.data is None:
        parser.error("--data or GANWATCH_DATA must name the folder of data sets")
    chosen = QUICK_PARTS if arguments.quick else PARTS
    arguments.parts = tuple(arguments.parts.split(",")) if arguments.parts else chosen
    unknown = sorted(set(arguments.parts) - set(PARTS))
    if unknown:
        parser.error(f"--parts: expected some of {', '.join(PARTS)}, got {', '.join(unknown)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
