"""The end of a benchmark: which goals were missed, the figures as one JSON object on the last line, the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

Goals = Mapping[str, Callable[[float], bool]]


def report(figures: Mapping[str, float], goals: Goals) -> int:
    """Prints the outcome; 0 when every goal is met, else 1."""
    missed = [key for key, holds in goals.items() if not holds(figures[key])]
    for key in missed:
        print(f"missed: {key} = {figures[key]}")
    print(json.dumps(figures))
    return 1 if missed else 0
