"""The same seed twice: the scores have to be equal to the last bit."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.detection.bench import Bench, Measured, Part
from tests.benchmarks.detection.rows import read_table, split_normals, train_and_score
from tests.benchmarks.detection.table import print_table
from training.detectors.efficient_gan_options import EfficientGANOptions

FILE = "adbench/6_cardio.npz"


def run(bench: Bench) -> Part:
    """Trains three times, twice with the same seed."""
    found = bench.measure(__file__, FILE, {}, lambda: compute(bench))["largest difference"]
    print_table(
        "The same seed twice, cardio",
        ("training", "largest difference of a score"),
        [["same seed", f"{found['same']:g}"], ["another seed", f"{found['other']:g}"]],
    )
    return Part(
        {"determinism_difference": found["same"]}, {"determinism_difference": lambda difference: difference == 0}
    )


def compute(bench: Bench) -> Measured:
    """Differences of the scores."""
    rows = split_normals(read_table(bench.data / FILE), seed=0)
    first, second, other = (
        train_and_score(rows.X_train, rows.X_test, EfficientGANOptions(), seed)[0] for seed in (0, 0, 1)
    )
    return {
        "largest difference": {
            "same": float(np.abs(first - second).max()),
            "other": float(np.abs(first - other).max()),
        }
    }
