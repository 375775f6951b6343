"""ALOCC: its score against numpy, and a discriminator that keeps something to tell."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from tests.training.detectors.material import (
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


@pytest.fixture(scope="module")
def by_discriminator() -> ALOCC:
    """Scores with D alone; its code is long enough to keep what is foreign about a row."""
    options = ALOCCOptions(weight=0.0, score_units="raw", steps=1500, latent_dim=6, spectral_normalisation=False)
    detector = ALOCC(6, options, seed=0)
    detector.fit(make_correlated_rows(2000, np.random.default_rng(0)))
    return detector


def make_foreign_rows(n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows without the relations of the others, and in part beyond their range: float32 (n, 6)."""
    return rng.uniform(-4, 4, (n, 6)).astype(np.float32)


def test_what_d_thinks_of_whole_and_foreign_rows_does_not_end_at_one_half(by_discriminator: ALOCC) -> None:
    rng = np.random.default_rng(1)
    normal = make_correlated_rows(500, rng)
    trust, distrust = (
        float(np.mean(np.exp(-np.asarray(by_discriminator.score(tf.constant(rows))))))
        for rows in (normal, make_foreign_rows(500, rng))
    )
    assert trust - distrust > 0.05


def test_d_alone_finds_foreign_rows(by_discriminator: ALOCC) -> None:
    rng = np.random.default_rng(1)
    normal = make_correlated_rows(500, rng)
    scores = by_discriminator.score(tf.constant(np.concatenate([normal, make_foreign_rows(500, rng)])))
    assert roc_auc_score(np.repeat([0, 1], 500), np.asarray(scores)) > 0.85  # 0.16 without broken rows


def test_the_paper_preset_has_the_coefficients_of_the_paper() -> None:
    options = ALOCCOptions.preset("paper")
    assert (options.reconstruction_coefficient, options.noise) == (0.4, 0.155)
    assert (options.weight, options.broken_weight) == (0, 0)
