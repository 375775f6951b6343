"""EfficientGAN on KDD99 by its authors' protocol, beside baselines on the same rows.

Half the rows train (attacks only), the other half tests; `normal.` is the anomaly; the threshold is the 80th percentile
of the test scores. The best F1 that this allows is 0.9921. Labels of test rows are used to count, never to choose; the
one exception is the best single feature, which is picked on them and says so.

The preset `paper` alone, with its F1 on the way:

    python -m tests.benchmarks.detection.kdd99 --preset paper --seeds 1
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from tests.benchmarks.detection.baselines import score_baselines
from tests.benchmarks.detection.bench import Bench, Measured, Part, say
from tests.benchmarks.detection.rows import EFFICIENT_GAN, mean_of, score_rows, train_and_score
from tests.benchmarks.detection.table import print_table
from tests.benchmarks.goals import report
from training.datasets import kdd99_schema, load_kdd99, measure_detection, split_kdd99, to_feature_frame
from training.detectors.efficient_gan import EfficientGAN
from training.detectors.efficient_gan_options import EfficientGANOptions
from training.detectors.options import Scaling
from training.preprocessing import fit_preprocessor
from training.sampling import distinct_rows
from training.trainer import Progress, use_one_thread_an_operation

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
_CHECKPOINTS = 20


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


def measure_baselines(protocol: Protocol) -> Measured:
    """Of the same rows; the nearest neighbour of each."""

    def f1(y: NDArray[np.int64], score: NDArray[np.floating]) -> float:
        return float(f1_score(y, score >= np.quantile(score, 1 - ANOMALY_SHARE)))

    scores = score_baselines(protocol.X_train, protocol.X_test, protocol.y_test, neighbours=1, quality=f1)
    return {name: measure(score, protocol) for name, score in scores.items()}


def run(bench: Bench, changes: Mapping[str, Any] = {}) -> Part:
    """All seeds of the preset `default` and the baselines.

    Args:
        bench: data and seeds.
        changes: options that are other than by default.
    """
    options = EfficientGANOptions(**changes)
    by_seed = {
        seed: bench.measure(
            __file__,
            FILE,
            {**changes, "seed": seed},
            lambda seed=seed: measure_efficient_gan(load_protocol(bench.data), options, seed),
        )[EFFICIENT_GAN]
        for seed in bench.seeds(SEEDS, quick=3)
    }
    baselines = bench.measure(__file__, FILE, {"baselines": ""}, lambda: measure_baselines(load_protocol(bench.data)))
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


def run_paper(folder: Path, seeds: range, epochs: int | None) -> dict[str, float]:
    """F1 of the preset `paper` at checkpoints of its training: it rises, then collapses."""
    options = EfficientGANOptions.preset("paper", **({} if epochs is None else {"epochs": epochs}))
    protocol = load_protocol(folder, options.scaling)
    by_seed = {seed: follow_training(protocol, options, seed) for seed in seeds}
    steps = list(by_seed[seeds[0]])
    epoch = len(protocol.X_train) // options.batch_size
    print_table(
        "KDD99, the authors' protocol, preset `paper`: F1 on the way",
        ("epochs", *(f"seed {seed}" for seed in seeds)),
        [[f"{step / epoch:.0f}", *(found[step] for found in by_seed.values())] for step in steps],
    )
    best = [max(found.values()) for found in by_seed.values()]
    last = [found[steps[-1]] for found in by_seed.values()]
    return {"kdd99_paper_f1_best": mean_of(best), "kdd99_paper_f1_last": mean_of(last)}


def follow_training(protocol: Protocol, options: EfficientGANOptions, seed: int) -> dict[int, float]:
    """F1 on the test rows after some numbers of steps. Of use only to watch: nothing is chosen by it."""
    detector = EfficientGAN(protocol.X_train.shape[1], options, seed)
    found: dict[int, float] = {}

    def look(progress: Progress) -> None:
        if progress.step * _CHECKPOINTS >= (len(found) + 1) * progress.steps:
            f1 = measure_detection(score_rows(detector, protocol.X_test), protocol.y_test, flagged=ANOMALY_SHARE).f1
            found[progress.step] = f1
            say(f"paper, seed {seed}: {progress.step} steps, F1 {f1:.4f}")

    detector.fit(protocol.X_train, on_progress=look)
    return found


def main() -> int:
    """This part alone, with a preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=["default", "paper"], default="default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="shorter (or longer) training, in passes over the rows")
    parser.add_argument("--data", default=os.environ.get("GANWATCH_DATA"), help="folder of data sets; $GANWATCH_DATA")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data or GANWATCH_DATA must name the folder that holds kdd99/")
    use_one_thread_an_operation()
    folder = Path(arguments.data)
    if arguments.preset == "paper":
        return report(run_paper(folder, range(arguments.seeds), arguments.epochs), {})
    changes = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    part = run(Bench(folder, arguments.seeds), changes)
    return report(part.figures, part.goals)


if __name__ == "__main__":
    sys.exit(main())
