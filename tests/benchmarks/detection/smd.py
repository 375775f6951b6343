"""EfficientGAN on two machines of the Server Machine Dataset, beside baselines: trained on `train`, scored on `test`.

Each minute is judged by itself; labelled intervals are not "point-adjusted", which would flatter any score. The best F1 is
that of the threshold which the labels would choose.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from tests.benchmarks.detection.baselines import BASELINE_KEYS, score_baselines
from tests.benchmarks.detection.bench import Bench, Measured, Part
from tests.benchmarks.detection.rows import (
    EFFICIENT_GAN,
    mean_of,
    measure_auroc,
    read_numbers,
    train_and_score,
    transform,
)
from tests.benchmarks.detection.table import print_table
from training.detectors.efficient_gan_options import EfficientGANOptions

MACHINES = ("1-6", "3-4")
SEEDS = 3


def run(bench: Bench) -> Part:
    """Both machines."""
    figures: dict[str, float] = {}
    lines = []
    for machine in MACHINES:
        found = [measure(bench, machine, seed) for seed in bench.seeds(SEEDS)]
        means = {one: {key: mean_of(f[one][key] for f in found) for key in ("auroc", "f1")} for one in found[0]}
        lines += [[machine, one, mean["auroc"], mean["f1"]] for one, mean in means.items()]
        for suffix, mean in zip(("", *(f"_{key}" for key in BASELINE_KEYS)), means.values(), strict=True):
            figures |= {f"smd_{machine}{suffix}_auroc": mean["auroc"], f"smd_{machine}{suffix}_best_f1": mean["f1"]}
    print_table(f"SMD, {len(found)} seeds", ("machine", "detector", "AUROC", "best F1"), lines)
    return Part(figures, {})


def measure(bench: Bench, machine: str, seed: int) -> Measured:
    """AUROC and best F1 of each detector."""

    def compute() -> Measured:
        folder = bench.data / "smd"
        train, test, y = (
            read_numbers(folder / f"machine-{machine}.{part}.txt.gz") for part in ("train", "test", "test_label")
        )
        rows = transform(train, test, y.astype(np.int64))
        scores = {
            EFFICIENT_GAN: train_and_score(rows.X_train, rows.X_test, EfficientGANOptions(), seed)[0],
            **score_baselines(rows.X_train, rows.X_test, rows.y_test, seed=seed),
        }
        areas = measure_auroc(scores, rows.y_test)
        return {name: {"f1": best_f1(rows.y_test, score), **areas[name]} for name, score in scores.items()}

    return bench.measure(__file__, f"smd/machine-{machine}.*.txt.gz", {"seed": seed}, compute)


def best_f1(y: NDArray[np.int64], score: NDArray[np.floating]) -> float:
    """The highest F1 of any threshold."""
    precision, recall, _ = precision_recall_curve(y, score)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))
