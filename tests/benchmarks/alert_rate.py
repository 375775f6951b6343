"""How many normal records each threshold method flags, against its target: the tests' machines, scored by their trained model.

`python -m tests.benchmarks.alert_rate`. The committed network is calibrated on 200,000 fresh readings, five times over; each time
the same million of further readings, all of them normal, is judged in the daemon's micro-batches.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from monitor.model.bundle import Bundle
from monitor.model.calibration import Calibration, score_of, tie_breakers
from monitor.model.decision import decide
from monitor.settings import Settings
from tests.benchmarks.detection.table import print_table
from tests.benchmarks.goals import Goals, report
from tests.benchmarks.kdd99_stream import say
from tests.challengers import committed
from tests.machines import readings
from training.calibrate import fit_calibration

EVENTS = 1_000_000
CALIBRATION_ROWS = 200_000
CALIBRATIONS = 5
TARGETS = {"1e2": 1e-2, "1e3": 1e-3}
METHODS = ("conformal", "pot", "quantile")
LEAST, MOST = 0.8, 1.25


def main() -> int:
    """Prints the figures; 1 when a goal is missed."""
    return report(*measure())


def measure() -> tuple[dict[str, float], Goals]:
    """Calibrates and judges: the figures, and as goals that each calibration gives a rate in [0.8, 1.25] × target."""
    bundle = committed()
    say(f"scoring {EVENTS:,} normal records")
    raw_score = raw_scores(bundle, EVENTS, seed=1000)
    breakers = tie_breakers(bundle.sha256, "features", 0, np.arange(EVENTS))
    rates: dict[tuple[str, str], list[float]] = {(name, method): [] for name in TARGETS for method in METHODS}
    for seed in range(CALIBRATIONS):
        calibration = fit_calibration(raw_scores(bundle, CALIBRATION_ROWS, seed=seed))
        say(f"calibration {seed + 1} of {CALIBRATIONS}: {calibration.tail}")
        for (name, method), found in rates.items():
            found.append(realised_rate(calibration, raw_score, breakers, TARGETS[name], method))
    ratios = {key: np.array(found) / TARGETS[key[0]] for key, found in rates.items()}
    print_table(
        f"Realised alert rate: {EVENTS:,} normal records, {CALIBRATIONS} calibrations on {CALIBRATION_ROWS:,} rows each",
        ("target", "method", "realised / target, mean", "least", "most"),
        [
            [f"{TARGETS[name]:g}", method, *(f"{value:.3f}" for value in (found.mean(), found.min(), found.max()))]
            for (name, method), found in ratios.items()
        ],
    )
    figures = {f"alert_rate_{name}": float(np.mean(rates[name, METHODS[0]])) for name in TARGETS}
    goals = {}
    for (name, method), found in rates.items():
        key, target = f"alert_rate_{name}_{method}", TARGETS[name]
        figures |= {key: float(np.mean(found)), f"{key}_least": min(found), f"{key}_most": max(found)}
        goals |= {
            f"{key}_least": lambda rate, target=target: rate >= LEAST * target,
            f"{key}_most": lambda rate, target=target: rate <= MOST * target,
        }
    return {key: round(value, 7) for key, value in figures.items()}, goals


def raw_scores(bundle: Bundle, n_rows: int, *, seed: int) -> NDArray[np.float32]:
    """Of normal readings: float32 (n_rows,), by the code that serves."""
    parts = readings(n_rows, seed=seed).iter_slices(Settings.model_fields["max_rows"].default)
    return np.concatenate([bundle.scorer.score(bundle.preprocessor.transform(part).X) for part in parts])


def realised_rate(
    calibration: Calibration,
    raw_score: NDArray[np.float32],
    breakers: NDArray[np.float64],
    target: float,
    method: str,
) -> float:
    """Share of records that are flagged, micro-batch by micro-batch."""
    settings = Settings.model_validate({"threshold_method": method, "target_alert_rate": target})
    n_flagged = 0
    for start in range(0, len(raw_score), settings.max_rows):
        batch = slice(start, start + settings.max_rows)
        p_value = calibration.p_values(raw_score[batch], breakers[batch])
        decision = decide(settings, calibration, raw_score=raw_score[batch], p_value=p_value, score=score_of(p_value))
        n_flagged += int(decision.flagged.sum())
    return n_flagged / len(raw_score)


if __name__ == "__main__":
    sys.exit(main())
