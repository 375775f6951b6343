"""What a tenth of anomalies among the training rows costs on KDD99, with trimming and without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.benchmarks.detection import kdd99
from tests.benchmarks.detection.baselines import score_baselines
from tests.benchmarks.detection.bench import Bench, Measured, Part
from tests.benchmarks.detection.rows import EFFICIENT_GAN, mean_of, train_and_score
from tests.benchmarks.detection.table import print_table
from training.detectors.efficient_gan_options import EfficientGANOptions

CONTAMINATION = 0.1
SEEDS = 3
TRIM: Mapping[str, Any] = {"trim": CONTAMINATION}


def run(bench: Bench) -> Part:
    """Clean rows, contaminated ones, contaminated ones with trimming."""
    seeds = bench.seeds(SEEDS)
    clean = {seed: measure(bench, seed, 0.0, {}) for seed in seeds}
    dirty = {seed: measure(bench, seed, CONTAMINATION, {}) for seed in seeds}
    trimmed = {seed: measure(bench, seed, CONTAMINATION, TRIM) for seed in seeds}
    means = [
        {name: {key: mean_of(one[name][key] for one in found.values()) for key in ("auroc", "f1")} for name in found[0]}
        for found in (clean, dirty, trimmed)
    ]
    print_table(
        f"KDD99 with {CONTAMINATION:.0%} anomalies among the training rows, {len(seeds)} seeds: AUROC (F1)",
        ("detector", "clean", "contaminated", "contaminated, trimmed"),
        [[name, *(_text(one.get(name)) for one in means)] for name in means[0]],
    )
    without, drop = (round(means[0][EFFICIENT_GAN]["auroc"] - one[EFFICIENT_GAN]["auroc"], 4) for one in means[1:])
    figures = {"contamination_drop": drop, "contamination_drop_untrimmed": without}
    return Part(figures, {"contamination_drop": lambda drop: drop <= 0.01})


def _text(mean: Mapping[str, float] | None) -> str | None:
    return None if mean is None else f"{mean['auroc']:.4f} ({mean['f1']:.4f})"


def measure(bench: Bench, seed: int, share: float, changes: Mapping[str, Any]) -> Measured:
    """Figures of each detector; of the baselines where nothing is trimmed."""

    def compute() -> Measured:
        protocol = kdd99.load_protocol(bench.data)
        X, rng = protocol.X_train, np.random.default_rng(seed)
        foreign = protocol.X_train_anomalies
        n_foreign = round(len(X) * share / (1 - share))
        X = rng.permutation(np.concatenate([X, foreign[rng.permutation(len(foreign))[:n_foreign]]]))
        scores = {EFFICIENT_GAN: train_and_score(X, protocol.X_test, EfficientGANOptions(**changes), seed)[0]}
        if not changes:
            scores |= score_baselines(X, protocol.X_test, protocol.y_test, neighbours=1, seed=seed)
        return {name: kdd99.measure(score, protocol) for name, score in scores.items()}

    return bench.measure(__file__, kdd99.FILE, {"share": share, **changes, "seed": seed}, compute)
