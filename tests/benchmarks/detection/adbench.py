"""EfficientGAN with one set of options on 20 sets of ADBench, beside baselines: the clean half trains, the rest tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.benchmarks.detection.baselines import (
    BEST_FEATURE,
    ISOLATION_FOREST,
    PCA_RESIDUAL,
    neighbour_distances,
    pca_residual,
    score_baselines,
)
from tests.benchmarks.detection.bench import Bench, Measured, Part
from tests.benchmarks.detection.rows import (
    EFFICIENT_GAN,
    mean_of,
    measure_auroc,
    read_table,
    split_normals,
    train_and_score,
)
from tests.benchmarks.detection.table import print_table
from training.detectors.efficient_gan_options import EfficientGANOptions

SEEDS = 5
NEAREST = "5-NN"
# The same with one setting changed, since the figures hang on it.
NEAREST_MEAN, PCA_80 = "5-NN, mean distance", "PCA residual, 80 % of the variance"
_KEYS = {
    EFFICIENT_GAN: "adbench_auroc",
    NEAREST: "adbench_knn_auroc",
    ISOLATION_FOREST: "adbench_iforest_auroc",
    NEAREST_MEAN: "adbench_knn_mean_auroc",
    PCA_RESIDUAL: "adbench_pca_auroc",
    PCA_80: "adbench_pca_80_auroc",
    BEST_FEATURE: "adbench_feature_auroc",
}
# "Far above" Isolation Forest is taken as three points.
GOALS = {
    "adbench_minus_knn": lambda difference: difference >= 0,
    "adbench_minus_iforest": lambda difference: difference >= 0.03,
}


def run(bench: Bench) -> Part:
    """All sets, all seeds."""
    options = EfficientGANOptions()
    files = sorted(path.name for path in (bench.data / "adbench").glob("*.npz"))
    seeds = bench.seeds(SEEDS)
    by_set = {name: _mean([measure(bench, name, options, seed) for seed in seeds]) for name in files}
    means = {detector: mean_of(found[detector] for found in by_set.values()) for detector in _KEYS}
    print_table(
        f"ADBench, clean half trains: AUROC, mean of {len(seeds)} seeds",
        ("set", *_KEYS),
        [
            *([name.removesuffix(".npz"), *(found[one] for one in _KEYS)] for name, found in by_set.items()),
            ["mean", *(means[one] for one in _KEYS)],
        ],
    )
    figures = {key: means[detector] for detector, key in _KEYS.items()}
    figures["adbench_minus_knn"] = round(means[EFFICIENT_GAN] - means[NEAREST], 4)
    figures["adbench_minus_iforest"] = round(means[EFFICIENT_GAN] - means[ISOLATION_FOREST], 4)
    return Part(figures, GOALS)


def measure(bench: Bench, name: str, options: EfficientGANOptions, seed: int) -> dict[str, float]:
    """AUROC of each detector on one set."""

    def compute() -> Measured:
        rows = split_normals(read_table(bench.data / "adbench" / name), seed)
        score, _ = train_and_score(rows.X_train, rows.X_test, options, seed)
        return measure_auroc({EFFICIENT_GAN: score}, rows.y_test)

    found = bench.measure(__file__, f"adbench/{name}", {"seed": seed}, compute)
    return {EFFICIENT_GAN: found[EFFICIENT_GAN]["auroc"], **measure_baselines(bench, name, seed)}


def measure_baselines(bench: Bench, name: str, seed: int) -> dict[str, float]:
    """AUROC of each baseline on one set."""

    def compute() -> Measured:
        rows = split_normals(read_table(bench.data / "adbench" / name), seed)
        scores: Mapping[str, Any] = {
            **score_baselines(rows.X_train, rows.X_test, rows.y_test, seed=seed),
            PCA_80: pca_residual(rows.X_train, rows.X_test, 0.8),
            NEAREST_MEAN: neighbour_distances(rows.X_train, rows.X_test, 5).mean(axis=1),
        }
        return measure_auroc(scores, rows.y_test)

    found = bench.measure(__file__, f"adbench/{name}", {"baselines": "", "seed": seed}, compute)
    return {baseline: figures["auroc"] for baseline, figures in found.items()}


def _mean(found: list[dict[str, float]]) -> dict[str, float]:
    return {detector: float(np.mean([one[detector] for one in found])) for detector in found[0]}
