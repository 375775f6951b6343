"""EfficientGAN on KDD99 by its authors' protocol, beside baselines on the same rows.

Half the rows train (attacks only), the other half tests; `normal.` is the anomaly; the threshold is the 80th percentile
of the test scores. The best F1 that this allows is 0.9921. Labels of test rows are used to count, never to choose; the
one exception is the best single feature, which is picked on them and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from tests.benchmarks.detection.baselines import score_baselines
from tests.benchmarks.detection.bench import Bench, Measured, Part
from tests.benchmarks.detection.rows import EFFICIENT_GAN, mean_of, train_and_score
from tests.benchmarks.detection.table import print_table
from training.datasets import kdd99_schema, load_kdd99, measure_detection, split_kdd99, to_feature_frame
from training.detectors.efficient_gan_options import EfficientGANOptions
from training.detectors.options import Scaling
from training.preprocessing import fit_preprocessor
from training.sampling import distinct_rows

FILE = "kdd99/kddcup.data_10_percent.gz"
ANOMALY_SHARE = 0.2
SEEDS = 10
GOALS = {
    "kdd99_f1_mean": lambda f1: f1 >= 0.988,
    "kdd99_f1_worst": lambda f1: f1 >= 0.985,
    "kdd99_f1_sd": lambda sd: sd <= 0.002,
    "kdd99_auroc": lambda auroc: auroc >= 0.999,
    "kdd99_ap": lambda ap: ap >= 0.990,
    "kdd99_dedup_f1": lambda f1: f1 >= 0.985,
}
_COLUMNS = ("f1", "auroc", "ap", "dedup_f1", "dedup_auroc")


@dataclass(frozen=True)
class Protocol:
    """The rows of the protocol after preprocessing.

    Attributes:
        X_train: float32 (n_train, d), inliers.
        X_train_anomalies: float32 (n, d), the anomalies of the training half, which the protocol leaves out.
        X_test: float32 (n_test, d).
        y_test: int64 (n_test,), 1 = anomaly.
        distinct: int64 (m,), positions of the de-duplicated variant: each distinct test row once, anomalies cut to 20 %.
    """

    X_train: NDArray[np.float32]
    X_train_anomalies: NDArray[np.float32]
    X_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    distinct: NDArray[np.int64]


@cache
def load_protocol(folder: Path, scaling: Scaling = "log_zscore") -> Protocol:
    """Reads, splits and transforms; the preprocessor sees training rows only."""
    frame, schema = load_kdd99(folder), kdd99_schema()
    split = split_kdd99(frame)
    features = to_feature_frame(frame, schema)
    preprocessor = fit_preprocessor(features[split.train], schema, scaling=scaling)
    X_train, X_train_anomalies, X_test = (
        preprocessor.transform(features[part]).X for part in (split.train, split.train_anomalies, split.test)
    )
    distinct, _ = distinct_rows(X_test)
    is_anomaly = split.y_test[distinct] == 1
    inliers, anomalies = distinct[~is_anomaly], distinct[is_anomaly]
    cut = np.random.default_rng(42).permutation(anomalies)[: round(len(inliers) * ANOMALY_SHARE / (1 - ANOMALY_SHARE))]
    return Protocol(X_train, X_train_anomalies, X_test, split.y_test, np.concatenate([inliers, cut]))


def measure(score: NDArray[np.floating], protocol: Protocol) -> dict[str, float]:
    """Applies the protocol's threshold to all test rows and to the distinct ones."""
    usual = measure_detection(score, protocol.y_test, flagged=ANOMALY_SHARE)
    distinct = measure_detection(score[protocol.distinct], protocol.y_test[protocol.distinct], flagged=ANOMALY_SHARE)
    return dict(zip(_COLUMNS, (usual.f1, usual.auroc, usual.ap, distinct.f1, distinct.auroc), strict=True))


def measure_efficient_gan(protocol: Protocol, options: EfficientGANOptions, seed: int) -> Measured:
    """Trains without labels and scores the test rows."""
    score, seconds = train_and_score(protocol.X_train, protocol.X_test, options, seed)
    return {EFFICIENT_GAN: measure(score, protocol) | {"seconds": seconds}}


def measure_baselines(protocol: Protocol, seed: int = 0) -> Measured:
    """Of the same rows; the nearest neighbour of each."""

    def f1(y: NDArray[np.int64], score: NDArray[np.floating]) -> float:
        return float(f1_score(y, score >= np.quantile(score, 1 - ANOMALY_SHARE)))

    rows = (protocol.X_train, protocol.X_test, protocol.y_test)
    scores = score_baselines(*rows, neighbours=1, quality=f1, seed=seed)
    return {name: measure(score, protocol) for name, score in scores.items()}


def measure_all_baselines(bench: Bench) -> Measured:
    """The same, computed once in all parts of the benchmark."""
    return bench.measure(__file__, FILE, {"baselines": ""}, lambda: measure_baselines(load_protocol(bench.data)))


def run(bench: Bench) -> Part:
    """All seeds of the preset `default` and the baselines."""
    options = EfficientGANOptions()
    by_seed = {
        seed: bench.measure(
            __file__,
            FILE,
            {"seed": seed},
            lambda seed=seed: measure_efficient_gan(load_protocol(bench.data), options, seed),
        )[EFFICIENT_GAN]
        for seed in bench.seeds(SEEDS, quick=3)
    }
    baselines = measure_all_baselines(bench)
    print_table(
        f"KDD99, the authors' protocol, {len(by_seed)} seeds",
        ("detector", "F1", "AUROC", "AP", "F1, distinct rows", "AUROC, distinct rows", "training, s"),
        [
            *(
                [f"{EFFICIENT_GAN}, seed {seed}", *_cells(one), f"{one['seconds']:.0f}"]
                for seed, one in by_seed.items()
            ),
            *([name, *_cells(one), None] for name, one in baselines.items()),
        ],
    )
    return Part(summarise(list(by_seed.values()), baselines), GOALS if len(by_seed) > 1 else {})


def summarise(members: list[dict[str, float]], baselines: Measured) -> dict[str, float]:
    """The figures of the last line."""
    f1 = np.array([member["f1"] for member in members])
    figures = {
        "kdd99_f1_mean": mean_of(f1),
        "kdd99_f1_worst": round(float(f1.min()), 4),
        "kdd99_f1_sd": round(float(f1.std(ddof=1)), 4) if len(f1) > 1 else 0.0,
        **{f"kdd99_{name}": mean_of(member[name] for member in members) for name in ("auroc", "ap", "dedup_f1")},
        "kdd99_train_s": round(float(np.mean([member["seconds"] for member in members])), 1),
    }
    names = dict(zip(baselines, ("feature", "pca", "iforest", "nn"), strict=True))
    for name, short in names.items():
        figures |= {f"kdd99_{short}_{figure}": round(baselines[name][figure], 4) for figure in ("f1", "dedup_f1")}
    return figures


def _cells(figures: Mapping[str, float]) -> list[float]:
    return [figures[name] for name in _COLUMNS]
