"""GANomaly: its score against numpy in all variants, and its paper preset."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest
import tensorflow as tf

from tests.training.detectors.material import make_correlated_rows, run_mlp, weights_of
from training.detectors.ganomaly import GANomaly, GANomalyOptions

pytestmark = pytest.mark.training

X = make_correlated_rows(50, np.random.default_rng(0))


@pytest.mark.parametrize(("encoder", "distance"), [*itertools.product(["second", "generator"], ["l1", "l2"])])
def test_the_score_compares_the_code_of_a_row_with_that_of_its_reconstruction(
    encoder: Literal["second", "generator"], distance: Literal["l1", "l2"]
) -> None:
    options = GANomalyOptions.preset("paper", encoder=encoder, distance=distance)
    detector = GANomaly(6, options, seed=3)
    first, generator, second = (weights_of(model) for model in detector.networks[:3])
    z = run_mlp(first, X, slope=0.1)
    z_hat = run_mlp(second if encoder == "second" else first, run_mlp(generator, z, slope=0.0), slope=0.1)
    expected = np.mean(np.abs(z - z_hat) if distance == "l1" else (z - z_hat) ** 2, axis=1)
    np.testing.assert_allclose(detector.score(tf.constant(X)), expected, rtol=1e-3, atol=1e-6)


def test_the_reconstruction_joins_the_score_by_its_weight() -> None:
    options = GANomalyOptions(weight=0.7, score_units="raw")
    detector = GANomaly(6, options, seed=3)
    codes_alone = GANomaly(6, options.model_copy(update={"weight": 0.0}), seed=3)
    x_hat, _ = detector.explain(tf.constant(X))
    expected = 0.7 * np.abs(X - x_hat).sum(axis=1) + 0.3 * np.asarray(codes_alone.score(tf.constant(X)))
    np.testing.assert_allclose(detector.score(tf.constant(X)), expected, rtol=1e-4)


def test_the_paper_preset_has_the_coefficients_and_rates_of_the_paper() -> None:
    options = GANomalyOptions.preset("paper")
    coefficients = (options.adversarial_coefficient, options.content_coefficient, options.encoder_coefficient)
    assert coefficients == (1, 50, 1)
    assert (options.learning_rate, options.batch_size, options.weight, options.distance) == (2e-4, 64, 0.0, "l1")


def test_training_brings_the_two_codes_together() -> None:
    rows = make_correlated_rows(500, np.random.default_rng(0))
    detector = GANomaly(6, GANomalyOptions(steps=600), seed=0)
    history = detector.fit(rows)
    assert history.progress[-1].losses["latent"] < 0.5 * history.progress[0].losses["latent"]
    assert set(history.progress[0].losses) == {"discriminator", "adversarial", "reconstruction", "latent"}
