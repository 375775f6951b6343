"""AnoGAN: its score against numpy, its two ways to a code, and its two phases of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from monitor.errors import ConfigError
from tests.training.detectors.material import make_correlated_rows, run_discriminator, run_mlp, weights_of
from training.detectors.anogan import AnoGAN, AnoGANOptions
from training.detectors.anogan_training import AnoGANNetworks
from training.detectors.network_detector import Member, Terms
from training.trainer import LabelledRows

pytestmark = pytest.mark.training


class SearchedRows(AnoGAN):
    """Remembers the most rows that were searched for at once."""

    most_rows = 0

    def measure_terms(self, member: Member, X: tf.Tensor) -> Terms:
        self.most_rows = max(self.most_rows, len(X))
        return super().measure_terms(member, X)


def test_the_score_weighs_the_distance_from_what_the_generator_makes_and_that_of_the_features() -> None:
    X = make_correlated_rows(50, np.random.default_rng(0))
    detector = AnoGAN(6, AnoGANOptions(weight=0.7, score_units="raw"), seed=3)
    generator, discriminator, encoder = (weights_of(model) for model in detector.networks[:3])
    x_hat = run_mlp(generator, run_mlp(encoder, X, slope=0.1), slope=0.0)
    features, features_hat = (run_discriminator(discriminator, rows)[1] for rows in (X, x_hat))
    expected = 0.7 * np.abs(X - x_hat).sum(axis=1) + 0.3 * np.abs(features - features_hat).sum(axis=1)
    np.testing.assert_allclose(detector.score(tf.constant(X)), expected, rtol=1e-4)


def test_the_paper_preset_searches_with_lambda_one_tenth() -> None:
    options = AnoGANOptions.preset("paper")
    assert (options.search, options.search_steps, options.similarity) == ("latent", 500, "l1")
    assert options.weight == pytest.approx(0.9)


def test_a_search_needs_no_encoder_and_takes_a_fixed_number_of_rows() -> None:
    searching = AnoGAN(6, AnoGANOptions(search="latent"), seed=0)
    encoding = AnoGAN(6, AnoGANOptions(search="encoder"), seed=0)
    assert (searching.members[0].networks.encoder, searching.serving_rows) == (None, 64)
    assert (encoding.members[0].networks.encoder is None, encoding.serving_rows) == (False, None)


def test_each_of_several_members_searches_with_its_own_networks() -> None:
    rows = make_correlated_rows(200, np.random.default_rng(0))
    detector = AnoGAN(6, AnoGANOptions(search="latent", steps=50, members=None), seed=0)  # as few rows: three members
    detector.fit(rows)
    assert len(detector.members) == 3
    X = tf.constant(rows[: detector.serving_rows])
    eager = [detector.measure_terms(member, X).x_hat for member in detector.members]
    inside = tf.function(lambda X: [detector.measure_terms(member, X).x_hat for member in detector.members])(X)
    for one, other in zip(eager, inside, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_a_search_is_evaluated_all_along_and_an_encoder_once_it_learns() -> None:
    X = make_correlated_rows(200, np.random.default_rng(0))

    def evaluated(**options: Any) -> list[int]:
        options = {"steps": 200, "checkpoint": "pseudo_anomalies", "search_steps": 5, **options}
        history = AnoGAN(6, AnoGANOptions(**options), seed=0).fit(X)
        return [evaluation.step for evaluation in history.evaluations]

    assert evaluated(search="latent") == [50, 100, 150, 200]
    assert evaluated(search="encoder", encoder_share=0.5) == [100, 150, 200]


def test_a_search_is_evaluated_on_some_of_many_labelled_rows_of_which_both_kinds_are_kept() -> None:
    X = make_correlated_rows(3000, np.random.default_rng(0))
    detector = SearchedRows(6, AnoGANOptions(search="latent", steps=50, search_steps=2), seed=0)
    detector.fit(X[:100], validation=LabelledRows(X, (np.arange(3000) < 10).astype(int)))
    assert detector.most_rows == 510


def test_an_option_that_has_no_effect_here_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown key 'warm_up'"):
        AnoGANOptions(warm_up=0.5)


def test_generator_and_discriminator_stand_still_while_the_encoder_learns() -> None:
    X = make_correlated_rows(300, np.random.default_rng(0))

    def train(steps: int, encoder_share: float) -> AnoGANNetworks:
        options = AnoGANOptions(steps=steps, encoder_share=encoder_share, final_learning_rate=1.0)
        detector = AnoGAN(6, options, seed=0)
        detector.fit(X)
        networks: AnoGANNetworks = detector.members[0].networks
        return networks

    both, first_alone = train(100, 0.5), train(51, 0.02)
    assert both.encoder is not None
    assert first_alone.encoder is not None
    for left, right in zip(weights_of(both.generator), weights_of(first_alone.generator), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)
    assert not np.allclose(weights_of(both.encoder)[0], weights_of(first_alone.encoder)[0], atol=1e-3)


def test_the_progress_names_the_losses_of_both_phases() -> None:
    detector = AnoGAN(6, AnoGANOptions(steps=100, encoder_share=0.5), seed=0)
    history = detector.fit(make_correlated_rows(300, np.random.default_rng(0)))
    adversaries, encoder = (report.losses for report in history.progress)
    assert adversaries["discriminator"] > 0 == adversaries["encoder"]
    assert encoder["encoder"] > 0 == encoder["discriminator"]
