"""How many normal records the threshold methods flag, against their target: `tests.benchmarks.alert_rate` as a part."""

from __future__ import annotations

from tests.benchmarks import alert_rate
from tests.benchmarks.detection.bench import Bench, Part


def run(bench: Bench) -> Part:
    """All methods, all targets, each calibration: they need neither data nor training."""
    return Part(*alert_rate.measure())
