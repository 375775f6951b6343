"""EfficientGAN: its formulas against numpy, its options, its presets and its early stopping."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from monitor.errors import ConfigError
from tests.training.detectors.material import break_relations, make_correlated_rows, run_mlp, weights_of
from training.detectors.efficient_gan import EfficientGAN
from training.detectors.efficient_gan_options import EfficientGANOptions, Loss
from training.detectors.fitting import choose_steps
from training.detectors.network_detector import choose_latent_dim
from training.detectors.networks import Dropout, SpectralNormalisation
from training.detectors.steps import Adam, averaging_share, cosine_decay, linear_warm_up
from training.trainer import LabelledRows, Progress

pytestmark = pytest.mark.training


def run_joint_discriminator(weights: list[np.ndarray], x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logit (n,) and features (n, width) in plain numpy."""

    def leaky(rows: np.ndarray) -> np.ndarray:
        return np.where(rows > 0, rows, 0.1 * rows)

    joined = np.concatenate([leaky(x @ weights[0] + weights[1]), leaky(z @ weights[2] + weights[3])], axis=1)
    features = leaky(joined @ weights[4] + weights[5])
    return (features @ weights[6] + weights[7])[:, 0], features


class TestScore:
    @pytest.mark.parametrize(
        ("loss", "degree"),
        [*itertools.product(get_args(Loss), [1, 2])],
    )
    def test_of_raw_units_is_the_formula_of_the_paper(self, loss: Loss, degree: int) -> None:
        X = make_correlated_rows(50, np.random.default_rng(0))
        options = EfficientGANOptions(
            loss=loss, degree=degree, weight=0.7, prototypes=0, score_units="raw", dropout=0.5
        )
        detector = EfficientGAN(6, options, seed=3)
        encoder, generator, discriminator = (weights_of(model) for model in detector.networks[:3])
        z = run_mlp(encoder, X, slope=0.1)
        x_hat = run_mlp(generator, z, slope=0.0)
        logit, features = run_joint_discriminator(discriminator, X, z)
        logit_hat, features_hat = run_joint_discriminator(discriminator, x_hat, z)
        second = {
            "cross_entropy": np.log1p(np.exp(-logit)),
            "cross_entropy_reconstruction": np.log1p(np.exp(-logit_hat)),
            "feature_matching": np.linalg.norm(features - features_hat, ord=degree, axis=1),
        }[loss]
        expected = 0.7 * np.linalg.norm(X - x_hat, ord=degree, axis=1) + 0.3 * second
        np.testing.assert_allclose(detector.score(tf.constant(X)), expected, rtol=1e-4)

    @pytest.mark.parametrize("loss", get_args(Loss))
    def test_of_training_rows_has_mean_one(self, loss: Loss) -> None:
        X = make_correlated_rows(400, np.random.default_rng(0))
        detector = EfficientGAN(6, EfficientGANOptions(loss=loss, prototypes=0, steps=50), seed=0)
        detector.fit(X)
        assert float(np.mean(detector.score(tf.constant(X)))) == pytest.approx(1.0, rel=1e-4)

    def test_is_the_sum_of_the_explained_residuals_for_degree_one_and_weight_one(self) -> None:
        X = make_correlated_rows(100, np.random.default_rng(0))
        detector = EfficientGAN(6, EfficientGANOptions(weight=1.0, steps=20), seed=0)
        detector.fit(X)
        _, residual = detector.explain(tf.constant(X))
        np.testing.assert_allclose(detector.score(tf.constant(X)), np.sum(residual, axis=1), rtol=1e-4)

    def test_divides_each_residual_by_its_root_mean_square_over_the_training_rows(self) -> None:
        X = make_correlated_rows(300, np.random.default_rng(0))
        detector = EfficientGAN(6, EfficientGANOptions(prototypes=0, members=1, steps=50), seed=0)
        detector.fit(X)
        x_hat, residual = (np.asarray(part) for part in detector.explain(tf.constant(X)))
        scaled = np.abs(X - x_hat) / np.sqrt(np.mean((X - x_hat) ** 2, axis=0))
        np.testing.assert_allclose(residual / residual.sum(), scaled / scaled.sum(), rtol=1e-3)

    def test_finds_rows_whose_columns_are_plausible_one_by_one_but_not_together(self) -> None:
        rng = np.random.default_rng(0)
        X, normal = make_correlated_rows(3000, rng), make_correlated_rows(1000, rng)
        detector = EfficientGAN(6, EfficientGANOptions(steps=1500), seed=0)
        detector.fit(X)
        rows = np.concatenate([normal, break_relations(normal, rng)])
        assert roc_auc_score(np.repeat([0, 1], 1000), np.asarray(detector.score(tf.constant(rows)))) > 0.9


class TestOptions:
    def test_that_are_out_of_range_are_refused_all_at_once_and_by_name(self) -> None:
        wrong: dict[str, Any] = {"weight": 1.5, "batch_size": 0, "loss": "huber", "widht": 3}
        with pytest.raises(ConfigError) as error:
            EfficientGANOptions(**wrong)
        text = str(error.value)
        assert [name in text for name in ("weight", "batch_size", "loss", "widht")] == [True] * 4

    def test_refuse_steps_together_with_epochs(self) -> None:
        with pytest.raises(ConfigError, match="steps and epochs exclude each other"):
            EfficientGANOptions(steps=10, epochs=1)

    def test_refuse_an_unknown_preset_and_name_the_known_ones(self) -> None:
        with pytest.raises(ConfigError, match="default, paper, got 'papper'"):
            EfficientGANOptions.preset("papper")

    def test_of_a_preset_can_be_changed_one_by_one(self) -> None:
        options = EfficientGANOptions.preset("paper", batch_size=64)
        assert (options.batch_size, options.learning_rate) == (64, 1e-5)

    def test_steps_replace_the_epochs_of_the_preset(self) -> None:
        options = EfficientGANOptions.preset("paper", steps=7)
        assert (options.steps, options.epochs) == (7, None)

    def test_survive_a_round_trip_through_plain_data(self) -> None:
        options = EfficientGANOptions.preset("paper", latent_dim=5)
        assert EfficientGANOptions(**options.model_dump(mode="json")) == options


class TestPaperPreset:
    def test_builds_the_networks_of_the_paper(self) -> None:
        detector = EfficientGAN(121, EfficientGANOptions.preset("paper"), seed=0)
        shapes = [[tuple(weight.shape) for weight in weights_of(model)[::2]] for model in detector.networks[:3]]
        assert shapes == [
            [(121, 64), (64, 32)],
            [(32, 64), (64, 128), (128, 121)],
            [(121, 128), (32, 128), (256, 128), (128, 1)],
        ]

    def test_has_the_rates_of_the_paper(self) -> None:
        options = EfficientGANOptions.preset("paper")
        assert (options.learning_rate, options.batch_size, options.moving_average) == (1e-5, 50, 0.9999)
        assert (options.weight, options.degree, options.dropout, options.scaling) == (0.9, 1, 0.2, "none")
        assert (options.consistency_x, options.consistency_z) == (0, 0)


class TestTraining:
    def test_keeps_the_moving_average_of_the_weights(self) -> None:
        X = make_correlated_rows(200, np.random.default_rng(0))

        def first_kernel(learning_rate: float, moving_average: float) -> np.ndarray:
            """E's first kernel as it scores after one step."""
            options = EfficientGANOptions.preset(
                "paper", steps=1, learning_rate=learning_rate, moving_average=moving_average
            )
            detector = EfficientGAN(6, options, seed=0)
            detector.fit(X)
            return weights_of(detector.networks[0])[0]

        before, after = first_kernel(1e-12, 0.0), first_kernel(0.1, 0.0)
        assert np.abs(after - before).max() > 0.09
        np.testing.assert_allclose(first_kernel(0.1, 0.75), 0.75 * before + 0.25 * after, atol=1e-6)

    def test_reports_every_step_and_named_losses(self) -> None:
        reports: list[Progress] = []
        detector = EfficientGAN(6, EfficientGANOptions(steps=120), seed=0)
        history = detector.fit(make_correlated_rows(100, np.random.default_rng(0)), on_progress=reports.append)
        assert [(report.step, report.steps) for report in reports] == [(50, 120), (100, 120), (120, 120)]
        assert set(reports[0].losses) == {"discriminator", "adversarial", "reconstruction", "latent"}
        assert history.progress == tuple(reports)
        assert (history.best_step, history.stopped_early) == (120, False)

    def test_counts_epochs_in_whole_batches(self) -> None:
        detector = EfficientGAN(6, EfficientGANOptions(epochs=3, batch_size=40), seed=0)
        history = detector.fit(make_correlated_rows(100, np.random.default_rng(0)))
        assert history.progress[-1].steps == 6

    def test_with_labels_keeps_the_best_weights_and_stops_when_patience_runs_out(self) -> None:
        rng = np.random.default_rng(0)
        X, normal = make_correlated_rows(500, rng), make_correlated_rows(300, rng)
        labelled = LabelledRows(np.concatenate([normal, break_relations(normal, rng)]), np.repeat([0, 1], 300))
        detector = EfficientGAN(6, EfficientGANOptions(steps=4000, early_stop_num=2, learning_rate=3e-3), seed=0)
        history = detector.fit(X, validation=labelled)
        best = max(history.evaluations, key=lambda evaluation: evaluation.quality)
        kept = roc_auc_score(labelled.y, np.asarray(detector.score(tf.constant(labelled.X))))
        assert history.stopped_early
        assert history.best_step == best.step < history.progress[-1].step
        assert kept == pytest.approx(best.quality, abs=1e-6)

    def test_without_labels_stops_by_exchanged_columns(self) -> None:
        X = make_correlated_rows(600, np.random.default_rng(0))
        detector = EfficientGAN(6, EfficientGANOptions(steps=4000, early_stop_num=2, learning_rate=3e-3), seed=0)
        history = detector.fit(X)
        assert history.stopped_early
        assert history.best_step == max(history.evaluations, key=lambda evaluation: evaluation.quality).step

    def test_refuses_validation_rows_of_one_class(self) -> None:
        X = make_correlated_rows(100, np.random.default_rng(0))
        detector = EfficientGAN(6, EfficientGANOptions(steps=50), seed=0)
        with pytest.raises(ConfigError, match="got 0 anomalies in 100 rows"):
            detector.fit(X, validation=LabelledRows(X, np.zeros(100, int)))

    @pytest.mark.parametrize("X", [np.zeros((3, 5), np.float32), np.zeros((0, 6), np.float32)])
    def test_refuses_rows_of_another_width_and_no_rows(self, X: np.ndarray) -> None:
        with pytest.raises(ValueError, match="expected float32"):
            EfficientGAN(6, EfficientGANOptions(steps=1), seed=0).fit(X)

    def test_refuses_rows_that_are_not_finite(self) -> None:
        X = np.full((3, 6), np.nan, np.float32)
        with pytest.raises(ValueError, match="expected finite"):
            EfficientGAN(6, EfficientGANOptions(steps=1), seed=0).fit(X)


class TestChoices:
    @pytest.mark.parametrize(("n_features", "latent_dim"), [(1, 1), (2, 1), (7, 3), (31, 15), (64, 16), (500, 16)])
    def test_the_code_is_half_as_wide_as_the_data(self, n_features: int, latent_dim: int) -> None:
        assert choose_latent_dim(n_features) == latent_dim

    def test_the_number_of_steps_grows_with_the_distinct_rows_within_limits(self) -> None:
        steps = [choose_steps(n_distinct, batch_size=100) for n_distinct in (1, 10_000, 10_000_000)]
        assert steps[0] < steps[1] < steps[2]
        assert steps[1] == 3000


class TestNetworks:
    def test_spectral_normalisation_brings_the_largest_singular_value_down_to_one_and_leaves_small_kernels(
        self,
    ) -> None:
        rng = np.random.default_rng(0)
        large = tf.Variable(3 * rng.standard_normal((20, 10)).astype(np.float32))
        small = tf.Variable(0.01 * rng.standard_normal((20, 10)).astype(np.float32))
        before = small.numpy()
        normalisation = SpectralNormalisation([large, small], rng)
        for _ in range(100):
            normalisation.project()
        assert np.linalg.svd(large.numpy(), compute_uv=False)[0] == pytest.approx(1.0, abs=1e-3)
        np.testing.assert_array_equal(small.numpy(), before)

    def test_dropout_zeroes_its_share_and_keeps_the_mean(self) -> None:
        dropped = Dropout(0.2, seed=0)(tf.ones((400, 130)), training=True).numpy()
        assert np.mean(dropped == 0) == pytest.approx(0.2, abs=0.01)
        assert dropped.mean() == pytest.approx(1.0, abs=0.01)

    def test_dropout_does_nothing_outside_of_training(self) -> None:
        rows = tf.ones((3, 5))
        np.testing.assert_array_equal(Dropout(0.9, seed=0)(rows, training=False), rows)

    def test_dropout_differs_from_call_to_call_and_repeats_with_its_seed(self) -> None:
        first, second = Dropout(0.5, seed=1), Dropout(0.5, seed=1)
        rows = tf.ones((10, 16))
        draws = [layer(rows, training=True).numpy() for layer in (first, first, second)]
        assert not np.array_equal(draws[0], draws[1])
        np.testing.assert_array_equal(draws[0], draws[2])


class TestSchedules:
    def test_the_learning_rate_falls_by_half_a_cosine_to_its_final_share(self) -> None:
        np.testing.assert_allclose(cosine_decay(np.array([0, 50, 100]), 100, 0.1), [1.0, 0.55, 0.1])

    def test_a_final_share_of_one_keeps_the_learning_rate(self) -> None:
        np.testing.assert_array_equal(cosine_decay(np.arange(5), 5, 1.0), np.ones(5))

    def test_the_adversarial_term_grows_to_full_weight_and_stays(self) -> None:
        np.testing.assert_allclose(linear_warm_up(np.array([0, 4, 9, 50]), 10), [0.1, 0.5, 1.0, 1.0])
        np.testing.assert_array_equal(linear_warm_up(np.arange(3), 0), np.ones(3))

    def test_the_moving_average_forgets_its_start_soon_only_with_a_ramp(self) -> None:
        steps = np.array([0, 8, 10**6])
        np.testing.assert_allclose(averaging_share(steps, 0.999, ramp_steps=9), [0.9, 0.5, 0.001])
        np.testing.assert_allclose(averaging_share(steps, 0.999, ramp_steps=0), [0.001, 0.001, 0.001])

    def test_adam_makes_the_updates_of_its_paper(self) -> None:
        variable = tf.Variable([1.0, -2.0])
        adam = Adam([variable])
        value, first, second = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
        for step, gradient in enumerate(np.array([[0.5, -1.0], [0.1, 3.0], [-2.0, 0.2]])):
            adam.apply([tf.constant(gradient, tf.float32)], tf.constant(0.01), tf.constant(step))
            first, second = 0.5 * first + 0.5 * gradient, 0.999 * second + 0.001 * gradient**2
            corrected = first / (1 - 0.5 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
            value = value - 0.01 * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-4)
