"""What each step from the paper's EfficientGAN to ours adds, and what the adversarial part does in the end.

Each line keeps what the line above has, but for whitening, masking and the ensemble, which are shown and then left out again.
The pure GAN trains with our networks and rates, so that the lines differ by what they name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tests.benchmarks.detection import adbench, kdd99
from tests.benchmarks.detection.bench import Bench, Measured, Part
from tests.benchmarks.detection.rows import mean_of, measure_auroc, read_table, split_normals
from tests.benchmarks.detection.table import print_table
from training.detectors.adversarial import AdversarialTraining, Networks
from training.detectors.efficient_gan import EfficientGAN
from training.detectors.efficient_gan_options import EfficientGANOptions
from training.detectors.options import Scaling
from training.detectors.steps import Clock

SEEDS = 3
_GAN = {"prototypes": 0, "members": 1}
_PURE = {**_GAN, "consistency_x": 0.0, "consistency_z": 0.0}
_VARIANCE_FLOOR = 1e-3


@dataclass(frozen=True)
class Step:
    """One line of the ablation.

    Attributes:
        name: what it adds.
        scaling: of the inputs.
        changes: options that are other than in `default`.
        whitens: whether inputs are rotated and scaled to unit covariance.
        has_adversary: whether D takes part in the training of E and G.
    """

    name: str
    scaling: Scaling
    changes: Mapping[str, Any]
    whitens: bool = False
    has_adversary: bool = True


STEPS = (
    Step("pure GAN, raw inputs", "none", _PURE),
    Step("+ z-score", "zscore", _PURE),
    Step("+ logarithm", "log_zscore", _PURE),
    Step("+ whitening (left out below)", "log_zscore", _PURE, whitens=True),
    Step("+ consistency", "log_zscore", _GAN),
    Step("+ masking (left out below)", "log_zscore", {**_GAN, "mask_rate": 0.6}),
    Step("+ masking, 3 members (left out below)", "log_zscore", {**_GAN, "mask_rate": 0.6, "members": 3}),
    Step("+ 3 members (left out below)", "log_zscore", {**_GAN, "members": 3}),
    Step("+ prototypes", "log_zscore", {"members": 1}),
    Step("+ 3 members where rows are few: `default`", "log_zscore", {}),
    Step("`default` without the adversarial part", "log_zscore", {"weight": 1.0}, has_adversary=False),
    Step("prototypes alone", "log_zscore", {"steps": 1, "prototype_share": 0.999, "members": 1}),
)


class WithoutAdversary(AdversarialTraining):
    """E and G learn by the consistency terms alone."""

    def step(self, rows: tf.Tensor, clock: Clock) -> tuple[tf.Tensor, ...]:
        """See `AdversarialTraining`."""
        return super().step(rows, replace(clock, adversarial=tf.zeros([])))


class ReconstructionOnly(EfficientGAN):
    """EfficientGAN without its GAN."""

    def make_training(
        self, networks: Networks, averages: Networks, X: NDArray[np.float32], **arguments: Any
    ) -> AdversarialTraining:
        """See `EfficientGAN`."""
        return WithoutAdversary(networks, averages, X, mask_cells=self.backbone.mask_cells, **arguments)


def run(bench: Bench) -> Part:
    """All steps on KDD99 and on ADBench."""
    seeds = bench.seeds(SEEDS)
    files = sorted(path.name for path in (bench.data / "adbench").glob("*.npz"))
    lines, figures = [], {}
    for number, step in enumerate(STEPS):
        kdd = [measure_kdd99(bench, step, seed) for seed in seeds]
        areas = [measure_adbench(bench, step, name, seed) for seed in seeds for name in files]
        means = [mean_of(one[key] for one in kdd) for key in ("f1", "auroc", "dedup_f1")]
        lines.append([step.name, *means, mean_of(areas)])
        figures |= {f"ablation_{number}_kdd99_f1": means[0], f"ablation_{number}_adbench_auroc": mean_of(areas)}
    lines += _baseline_lines(bench, files, seeds)
    print_table(
        f"Ablation, {len(seeds)} seeds",
        ("EfficientGAN", "KDD99 F1", "KDD99 AUROC", "KDD99 F1, distinct rows", "ADBench AUROC"),
        lines,
    )
    return Part(figures, {})


def measure_kdd99(bench: Bench, step: Step, seed: int) -> dict[str, float]:
    """By the authors' protocol."""

    def compute() -> Measured:
        protocol = kdd99.load_protocol(bench.data, step.scaling)
        score = score_step(step, protocol.X_train, protocol.X_test, seed)
        return {step.name: kdd99.measure(score, protocol)}

    return bench.measure(__file__, kdd99.FILE, _key(step, seed), compute)[step.name]


def measure_adbench(bench: Bench, step: Step, name: str, seed: int) -> float:
    """AUROC on one set."""

    def compute() -> Measured:
        rows = split_normals(read_table(bench.data / "adbench" / name), seed, step.scaling)
        return measure_auroc({step.name: score_step(step, rows.X_train, rows.X_test, seed)}, rows.y_test)

    return bench.measure(__file__, f"adbench/{name}", _key(step, seed), compute)[step.name]["auroc"]


def _key(step: Step, seed: int) -> dict[str, Any]:
    return {"step": step, "seed": seed}


def score_step(step: Step, X_train: NDArray[np.float32], X_test: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Scores of the test rows by the EfficientGAN of that step; a score that is not finite ranks highest."""
    if step.whitens:
        X_train, X_test = whiten(X_train, X_test)
    kind = EfficientGAN if step.has_adversary else ReconstructionOnly
    detector = kind(X_train.shape[1], EfficientGANOptions(**step.changes), seed)
    detector.fit(X_train)
    highest = np.finfo(np.float32).max
    return np.nan_to_num(detector.score_rows(X_test), nan=highest, posinf=highest)


def whiten(
    X_train: NDArray[np.float32], X_test: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rotates to principal axes and scales each to variance 1; axes without variance keep their unit."""
    mean = X_train.mean(axis=0, dtype=np.float64)
    variance, axes = np.linalg.eigh(np.cov(X_train - mean, rowvar=False))
    scale = np.sqrt(np.where(variance > _VARIANCE_FLOOR, variance, 1.0))
    return tuple(((part - mean) @ axes / scale).astype(np.float32) for part in (X_train, X_test))  # type: ignore[return-value]


def _baseline_lines(bench: Bench, files: list[str], seeds: range) -> list[list[Any]]:
    """The baselines on the same rows, mean of the same seeds."""
    kdd = [measure_kdd99_baselines(bench, seed) for seed in seeds]
    areas = [adbench.measure_baselines(bench, name, seed) for seed in seeds for name in files]
    return [
        [
            name if name == other else f"{name} / {other}",
            *(mean_of(one[name][key] for one in kdd) for key in ("f1", "auroc", "dedup_f1")),
            mean_of(one[other] for one in areas),
        ]
        for name, other in zip(kdd[0], areas[0], strict=False)  # in the same order; k-NN with 1 and with 5 neighbours
    ]


def measure_kdd99_baselines(bench: Bench, seed: int) -> Measured:
    """By the authors' protocol."""
    key = {"baselines": "", "seed": seed}
    return bench.measure(
        __file__, kdd99.FILE, key, lambda: kdd99.measure_baselines(kdd99.load_protocol(bench.data), seed)
    )
