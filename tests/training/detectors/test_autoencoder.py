"""Autoencoder and VAE: their formulas against numpy, their presets, what they keep."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from monitor.errors import ConfigError
from tests.training.detectors.material import make_correlated_rows, run_mlp, weights_of
from training.detectors.autoencoder import Autoencoder, AutoencoderOptions
from training.detectors.similarity import Similarity, measure_distance
from training.detectors.vae import VAE, VAEOptions, measure_divergence, split_code

pytestmark = pytest.mark.training

X = make_correlated_rows(50, np.random.default_rng(0))


@pytest.mark.parametrize("similarity", get_args(Similarity))
def test_an_autoencoders_score_is_the_distance_of_a_row_from_its_reconstruction(similarity: Similarity) -> None:
    detector = Autoencoder(6, AutoencoderOptions(similarity=similarity, score_units="raw"), seed=3)
    encoder, generator = (weights_of(model) for model in detector.networks[:2])
    x_hat = run_mlp(generator, run_mlp(encoder, X, slope=0.1), slope=0.0)
    expected = measure_distance(similarity, tf.constant(X), tf.constant(x_hat))
    np.testing.assert_allclose(detector.score(tf.constant(X)), expected, rtol=1e-3, atol=1e-5)


def test_an_autoencoder_has_no_preset_of_a_paper() -> None:
    with pytest.raises(ConfigError, match="expected one of default, got 'paper'"):
        AutoencoderOptions.preset("paper")


def test_an_autoencoder_has_the_layers_of_the_field() -> None:
    shapes = [
        [tuple(weight.shape) for weight in weights_of(model)[::2]]
        for model in Autoencoder(121, AutoencoderOptions(latent_dim=32), seed=0).networks[:2]
    ]
    assert shapes == [[(121, 128), (128, 64), (64, 32)], [(32, 64), (64, 128), (128, 121)]]


@pytest.mark.parametrize("training_loss", ["l1", "l2"])
def test_the_weights_that_reproduce_held_out_rows_best_are_kept(training_loss: str) -> None:
    rows = make_correlated_rows(400, np.random.default_rng(0))
    detector = Autoencoder(6, AutoencoderOptions(steps=400, training_loss=training_loss), seed=0)
    history = detector.fit(rows)
    best = max(history.evaluations, key=lambda evaluation: evaluation.quality)
    assert history.best_step == best.step
    assert history.evaluations[0].quality < best.quality < 0
    assert history.progress[-1].losses["reconstruction"] < history.progress[0].losses["reconstruction"]


def test_a_vaes_score_takes_the_mean_of_the_code_and_its_divergence() -> None:
    detector = VAE(6, VAEOptions(weight=0.7, score_units="raw"), seed=3)
    encoder, generator = (weights_of(model) for model in detector.networks[:2])
    code = run_mlp(encoder, X, slope=0.1)
    mean, log_variance = code[:, :3], code[:, 3:]
    x_hat = run_mlp(generator, mean, slope=0.0)
    divergence = 0.5 * np.sum(mean**2 + np.exp(log_variance) - 1 - log_variance, axis=1)
    expected = 0.7 * np.abs(X - x_hat).sum(axis=1) + 0.3 * divergence
    np.testing.assert_allclose(detector.score(tf.constant(X)), expected, rtol=1e-4)


def test_the_divergence_of_the_prior_from_itself_is_zero() -> None:
    assert float(measure_divergence(tf.zeros((1, 4)), tf.zeros((1, 4)))[0]) == 0


def test_a_code_far_outside_has_a_finite_variance() -> None:
    mean, log_variance = split_code(tf.constant([[1e6, 1e6]]))
    assert np.isfinite(measure_divergence(mean, log_variance)).all()


def test_the_papers_vae_learns_the_bound_itself() -> None:
    assert VAEOptions.preset("paper").kl_weight == 1.0
    assert VAEOptions().kl_weight == 0.1
