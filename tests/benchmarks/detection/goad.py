"""EfficientGAN by the protocol of GOAD, beside baselines: half the inliers train, the rest and all anomalies test.

As many test rows are flagged as there are anomalies among them. Figures of this protocol and of that of EfficientGAN's
authors cannot be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from tests.benchmarks.detection import kdd99
from tests.benchmarks.detection.baselines import BASELINE_KEYS, score_baselines
from tests.benchmarks.detection.bench import Bench, Measured, Part
from tests.benchmarks.detection.rows import (
    EFFICIENT_GAN,
    Rows,
    mean_of,
    measure_auroc,
    read_table,
    split_normals,
    train_and_score,
)
from tests.benchmarks.detection.table import print_table
from training.datasets import KDD99_LABEL, kdd99_schema, load_kdd99, to_feature_frame
from training.detectors.efficient_gan_options import EfficientGANOptions
from training.preprocessing import fit_preprocessor

SETS = {
    "kdd99": kdd99.FILE,
    "arrhythmia": "odds/arrhythmia.mat",
    "thyroid": "adbench/38_thyroid.npz",
}
SEEDS = {"kdd99": 3, "arrhythmia": 10, "thyroid": 10}
GOALS = {"goad_kdd99_f1": lambda f1: f1 >= 0.988, "goad_arrhythmia_f1": lambda f1: f1 >= 0.60}


def run(bench: Bench) -> Part:
    """All sets."""
    figures: dict[str, float] = {}
    lines = []
    for name in SETS:
        found = [measure(bench, name, seed) for seed in bench.seeds(SEEDS[name])]
        means = {one: {key: mean_of(f[one][key] for f in found) for key in ("f1", "auroc")} for one in found[0]}
        lines += [[name, str(len(found)), one, mean["f1"], mean["auroc"]] for one, mean in means.items()]
        figures[f"goad_{name}_f1"] = means[EFFICIENT_GAN]["f1"]
        baselines = zip(BASELINE_KEYS, list(means)[1:], strict=True)
        figures |= {f"goad_{name}_{key}_f1": means[one]["f1"] for key, one in baselines}
    print_table("The protocol of GOAD", ("set", "seeds", "detector", "F1", "AUROC"), lines)
    return Part(figures, GOALS)


def measure(bench: Bench, name: str, seed: int) -> Measured:
    """F1 and AUROC of each detector on one split of one set."""
    load: Callable[[], Rows] = lambda: split_normals(read_table(bench.data / SETS[name]), seed)  # noqa: E731
    return bench.measure(
        __file__,
        SETS[name],
        {"seed": seed},
        lambda: compute(load_kdd99_rows(bench, seed) if name == "kdd99" else load(), seed, 1 if name == "kdd99" else 5),
    )


def load_kdd99_rows(bench: Bench, seed: int) -> Rows:
    """KDD99 in this protocol: the attacks are the inliers, as elsewhere."""
    frame, schema = load_kdd99(bench.data), kdd99_schema()
    y = (frame[KDD99_LABEL] == "normal.").to_numpy(dtype=np.int64)
    inliers = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
    train, rest = np.split(inliers, [len(inliers) // 2])
    test = np.sort(np.concatenate([rest, np.flatnonzero(y)]))
    features = to_feature_frame(frame, schema)
    preprocessor = fit_preprocessor(features[train], schema)
    return Rows(preprocessor.transform(features[train]).X, preprocessor.transform(features[test]).X, y[test])


def compute(rows: Rows, seed: int, neighbours: int) -> Measured:
    """Trains and scores."""
    scores: Mapping[str, NDArray[np.floating]] = {
        EFFICIENT_GAN: train_and_score(rows.X_train, rows.X_test, EfficientGANOptions(), seed)[0],
        **score_baselines(rows.X_train, rows.X_test, rows.y_test, neighbours=neighbours, quality=top_f1, seed=seed),
    }
    areas = measure_auroc(scores, rows.y_test)
    return {name: {"f1": top_f1(rows.y_test, score), **areas[name]} for name, score in scores.items()}


def top_f1(y: NDArray[np.int64], score: NDArray[np.floating]) -> float:
    """F1 when as many of the highest scores are flagged as there are anomalies."""
    flagged = np.zeros(len(y), np.int64)
    flagged[np.argsort(-score, kind="stable")[: int(y.sum())]] = 1
    return float(f1_score(y, flagged))
