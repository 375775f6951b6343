"""The end of a benchmark: which goals were missed, the figures as one JSON object on the last line, the exit code.

The last line says of which commit the figures are.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

Goals = Mapping[str, Callable[[float], bool]]


def report(figures: Mapping[str, float], goals: Goals) -> int:
    """Prints the outcome; 0 when every goal is met, else 1."""
    missed = [key for key, holds in goals.items() if not holds(figures[key])]
    for key in missed:
        print(f"missed: {key} = {figures[key]}")
    print(json.dumps({**figures, "commit": describe_commit()}))
    return 1 if missed else 0


@cache
def describe_commit() -> str:
    """The short hash of the code that runs, with `+changes` where files differ from it; "unknown" outside of git."""
    command = ["git", "describe", "--always", "--exclude=*", "--dirty=+changes"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
