"""ALOCC: its score against numpy, and a discriminator that keeps something to tell."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from tests.training.detectors.material import (
    break_rows,
    make_correlated_rows,
    run_discriminator,
    run_mlp,
    weights_of,
)
from training.detectors.alocc import ALOCC, ALOCCOptions

pytestmark = pytest.mark.training


def test_the_papers_score_is_what_the_discriminator_thinks_of_the_reconstruction() -> None:
    X = make_correlated_rows(50, np.random.default_rng(0))
    detector = ALOCC(6, ALOCCOptions.preset("paper"), seed=3)
    encoder, generator, discriminator = (weights_of(model) for model in detector.networks[:3])
    logit, _ = run_discriminator(discriminator, run_mlp(generator, run_mlp(encoder, X, slope=0.1), slope=0.0))
    np.testing.assert_allclose(detector.score(tf.constant(X)), np.log1p(np.exp(-logit)), rtol=1e-4)


def test_the_reconstruction_error_joins_the_score_by_its_weight() -> None:
    X = make_correlated_rows(50, np.random.default_rng(0))
    options = ALOCCOptions(weight=1.0, score_units="raw")
    detector = ALOCC(6, options, seed=3)
    x_hat, _ = detector.explain(tf.constant(X))
    np.testing.assert_allclose(detector.score(tf.constant(X)), np.abs(X - x_hat).sum(axis=1), rtol=1e-4)


def make_foreign_rows(n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows without the relations of the others, and in part beyond their range: float32 (n, 6)."""
    return rng.uniform(-4, 4, (n, 6)).astype(np.float32)


# A long code keeps what is foreign about a row, and a free discriminator says it louder.
@pytest.mark.parametrize(
    ("changes", "least_auroc", "least_gap"),
    [({}, 0.6, 0.02), ({"latent_dim": 6, "spectral_normalisation": False}, 0.85, 0.05)],
    ids=["default", "long code"],
)
def test_d_alone_tells_foreign_rows(changes: dict[str, object], least_auroc: float, least_gap: float) -> None:
    """Without broken rows its AUROC is 0.1 to 0.2 here, and the gap negative."""
    detector = ALOCC(6, ALOCCOptions(weight=0.0, score_units="raw", steps=1500, **changes), seed=0)
    detector.fit(make_correlated_rows(2000, np.random.default_rng(0)))
    rng = np.random.default_rng(1)
    rows = np.concatenate([make_correlated_rows(500, rng), make_foreign_rows(500, rng)])
    score = np.asarray(detector.score(tf.constant(rows)))
    assert roc_auc_score(np.repeat([0, 1], 500), score) > least_auroc
    probability = np.exp(-score)
    assert probability[:500].mean() - probability[500:].mean() > least_gap


@pytest.mark.parametrize("width", [1, 2, 6])
def test_every_broken_row_has_a_foreign_value(width: int) -> None:
    X = np.random.default_rng(0).normal(size=(500, width)).astype(np.float32)
    is_foreign = break_rows(ALOCC(width, ALOCCOptions(steps=1), seed=0), X) != X
    assert is_foreign.any(axis=1).all()
    assert is_foreign.mean() < 0.6 or width == 1


def test_the_paper_preset_has_the_coefficients_of_the_paper() -> None:
    options = ALOCCOptions.preset("paper")
    assert (options.reconstruction_coefficient, options.noise) == (0.4, 0.155)
    assert (options.weight, options.broken_weight) == (0, 0)
