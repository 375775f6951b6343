"""What keeps a training stable: restarts, the choice of weights, trimming, ensembles, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from monitor.errors import ConfigError
from tests.training.detectors.material import break_relations, make_correlated_rows
from training.detectors import DETECTORS, network_detector
from training.detectors.adversarial import AdversarialTraining, Networks
from training.detectors.autoencoder import Autoencoder, AutoencoderOptions, AutoencoderTraining, Coders
from training.detectors.efficient_gan import EfficientGAN, draw_masks
from training.detectors.efficient_gan_options import EfficientGANOptions
from training.detectors.network_detector import Member, Terms
from training.detectors.steps import Clock
from training.detectors.vae import VAE, VAEOptions
from training.trainer import CollapseWatch, TrainingCollapse, measure_diversity

pytestmark = pytest.mark.training


class LateDivergence(AutoencoderTraining):
    """The update of the last step spoils the weights; the losses, measured before it, are sound."""

    def step(self, rows: tf.Tensor, clock: Clock) -> tuple[tf.Tensor, ...]:
        losses = super().step(rows, clock)
        spoilt = tf.where(clock.step == self.steps - 1, np.float32(np.nan), np.float32(0.0))
        for weight in self._networks.weights:
            weight.assign_add(tf.fill(weight.shape, spoilt))
        return losses


class LateDiverging(Autoencoder):
    """Ends in weights that are no numbers."""

    def make_training(self, networks: Coders, averages: Coders, X: Any, **arguments: Any) -> LateDivergence:
        return LateDivergence(networks, averages, X, **arguments)


class WatchedRows(EfficientGAN):
    """Remembers the rows that it trains on and those that set the units of its score."""

    trained: np.ndarray
    calibrated: np.ndarray

    def make_training(
        self, networks: Networks, averages: Networks, X: np.ndarray, **arguments: Any
    ) -> AdversarialTraining:
        self.trained = X
        return super().make_training(networks, averages, X, **arguments)

    def calibrate(self, X: np.ndarray) -> None:
        self.calibrated = X
        super().calibrate(X)


class WatchedDraws(Autoencoder):
    """Remembers the rows that each of its trainings drew."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.drawn: list[list[np.ndarray]] = []

    def make_training(self, networks: Coders, averages: Coders, X: Any, **arguments: Any) -> AutoencoderTraining:
        training = super().make_training(networks, averages, X, **arguments)
        draws: list[np.ndarray] = []
        draw = training.draw

        def watched(count: int) -> np.ndarray:
            draws.append(draw(count))
            return draws[-1]

        training.draw = watched  # type: ignore[method-assign]
        self.drawn.append(draws)
        return training


class CountingAutoencoder(Autoencoder):
    """Counts the networks that it builds and the most rows that went through them at once."""

    built = 0
    most_rows = 0

    def measure_terms(self, member: Member, X: tf.Tensor) -> Terms:
        self.most_rows = max(self.most_rows, len(X))
        return super().measure_terms(member, X)

    def build_networks(self) -> Coders:
        self.built += 1
        return super().build_networks()


@pytest.mark.parametrize(
    ("detector", "changes", "steps"),
    [
        ("efficient_gan", {}, 14),
        ("ganomaly", {}, 14),
        ("alocc", {}, 14),
        ("anogan", {"search": "latent", "search_steps": 1}, 14),
        ("anogan", {"encoder_share": 0.4}, 10),  # six of one batch, four of two
        ("autoencoder", {}, 7),
        ("vae", {}, 7),
    ],
)
def test_epochs_are_passes_over_the_rows_whether_a_network_takes_one_batch_of_a_step_or_both(
    detector: str, changes: dict[str, Any], steps: int
) -> None:
    kind = DETECTORS[detector]
    kept_whole = {"score_units": "raw", "checkpoint": "last", "members": 1}
    options = kind.options_type(epochs=2, batch_size=10, **kept_whole, **changes)
    history = kind(6, options, seed=0).fit(make_correlated_rows(70, np.random.default_rng(0)))
    assert history.progress[-1].steps == steps


def test_a_training_that_diverges_starts_anew_and_fails_with_the_fix_when_it_always_does() -> None:
    detector = CountingAutoencoder(6, AutoencoderOptions(steps=50, training_loss="l2", max_restarts=1), seed=0)
    with pytest.raises(ConfigError, match=r'values reach 2.+e\+30: scaling = "log_zscore" brings them down'):
        detector.fit(1e30 * make_correlated_rows(100, np.random.default_rng(0)))
    assert detector.built == 3  # those that score, and those of two attempts


def test_a_training_that_diverges_in_its_last_step_is_refused() -> None:
    detector = LateDiverging(6, AutoencoderOptions(steps=50, checkpoint="last", max_restarts=0), seed=0)
    with pytest.raises(ConfigError, match="not finite after 50 steps; lower learning_rate"):
        detector.fit(make_correlated_rows(100, np.random.default_rng(0)))


def test_a_generator_that_makes_one_row_only_is_counted_and_reported() -> None:
    rows = make_correlated_rows(300, np.random.default_rng(0))
    detector = VAE(6, VAEOptions(steps=600, kl_weight=100.0, max_restarts=1, checkpoint="last"), seed=0)
    history = detector.fit(rows)
    assert [str(restart)[:45] for restart in history.restarts] == ["training: generated rows vary 0.0% as much as"]
    assert history.collapse is not None
    assert history.collapse.remedy == "try another seed or detector"


def test_a_sound_training_reports_no_collapse() -> None:
    history = VAE(6, VAEOptions(steps=600), seed=0).fit(make_correlated_rows(300, np.random.default_rng(0)))
    assert (history.restarts, history.collapse, history.trimmed) == ((), None, 0)


def test_a_collapse_must_last_and_come_after_the_first_quarter() -> None:
    watch = CollapseWatch(iter([0.0] * 4 + [1.0] + [0.0] * 5).__next__, steps=1000)
    for step in range(0, 250, 50):
        watch.look(step)  # too early: nothing is measured
    for step in range(250, 700, 50):
        watch.look(step)
    assert watch.collapse is None
    with pytest.raises(TrainingCollapse, match=r"vary 0.0% as much as the data after 700 steps"):
        watch.look(700)


def test_the_last_attempt_notes_a_collapse_and_goes_on() -> None:
    watch = CollapseWatch(lambda: 0.0, steps=100, ends_training=False)
    for step in range(50, 100, 10):
        watch.look(step)
    assert watch.collapse is not None


def test_diversity_is_the_spread_of_generated_rows_where_the_data_vary() -> None:
    X = np.array([[0.0, 1.0, 5.0], [2.0, 3.0, 5.0]], np.float32)
    generated = np.array([[1.0, 0.0, 9.0], [1.0, 1.0, 0.0]], np.float32)
    assert measure_diversity(X.std(axis=0), generated) == pytest.approx((0.0 + 0.5) / 2)
    assert measure_diversity(X[:, 2:].std(axis=0), generated[:, 2:]) == 1.0


def test_levels_that_are_too_rare_to_be_generated_make_no_collapse() -> None:
    rng = np.random.default_rng(0)
    number, levels = rng.standard_normal((4000, 1)), np.eye(1000)[rng.integers(0, 1000, 4000)]
    X = np.column_stack([number, levels]).astype(np.float32)
    generated = X * (np.arange(1001) == 0)
    assert measure_diversity(X.std(axis=0), generated) == pytest.approx(0.5, abs=0.01)
    assert measure_diversity(X.std(axis=0), X * 0) == 0.0


def test_what_was_trimmed_scores_higher_than_where_it_was_trained_on() -> None:
    rng = np.random.default_rng(0)
    foreign = rng.uniform(-6, 6, (100, 6)).astype(np.float32)
    contaminated = np.concatenate([make_correlated_rows(2000, rng), foreign])

    def fit(trim: float) -> tuple[float, int]:
        """How the foreign rows score beside the mean of all, and how many rows were left out."""
        detector = Autoencoder(6, AutoencoderOptions(steps=300, trim=trim, sampling="epochs"), seed=0)
        history = detector.fit(contaminated)
        scores = np.asarray(detector.score(tf.constant(contaminated)))
        return float(scores[2000:].mean() / scores[:2000].mean()), history.trimmed

    (plain, none), (trimmed, n_trimmed) = fit(0.0), fit(0.05)
    assert (none, n_trimmed) == (0, 105)
    assert trimmed > 1.2 * plain


def test_the_choice_by_exchanged_columns_keeps_the_weights_that_do_best_on_held_out_rows() -> None:
    rows = make_correlated_rows(600, np.random.default_rng(0))
    detector = EfficientGAN(6, EfficientGANOptions(steps=600, checkpoint="pseudo_anomalies"), seed=0)
    history = detector.fit(rows)
    best = max(history.evaluations, key=lambda evaluation: evaluation.quality)
    assert (history.best_step, history.best_quality) == (best.step, best.quality)
    assert 0.5 < best.quality <= 1
    assert history.progress[-1].step == 600


@pytest.mark.parametrize(
    ("options", "n_rows", "n_members"),
    [({}, 200, 3), ({}, 10_000, 1), ({"members": 2}, 200, 2), (EfficientGANOptions.presets["paper"], 200, 1)],
    ids=["few rows", "many", "as told", "paper"],
)
def test_few_rows_train_three_members(options: Mapping[str, Any], n_rows: int, n_members: int) -> None:
    detector = EfficientGAN(6, EfficientGANOptions(**{**options, "epochs": None, "steps": 10}), seed=0)
    detector.fit(make_correlated_rows(n_rows, np.random.default_rng(0)))
    assert len(detector.members) == n_members


def test_the_score_of_an_ensemble_is_the_mean_of_its_members() -> None:
    X = make_correlated_rows(200, np.random.default_rng(0))
    detector = EfficientGAN(6, EfficientGANOptions(steps=60, members=3), seed=0)
    detector.fit(X)
    scores, residuals = [], []
    everyone = detector.members
    for member in everyone:
        detector.members = (member,)
        scores.append(np.asarray(detector.score(tf.constant(X))))
        residuals.append(np.asarray(detector.explain(tf.constant(X))[1]))
    detector.members = everyone
    assert not np.allclose(scores[0], scores[1], rtol=0.01)
    np.testing.assert_allclose(detector.score(tf.constant(X)), np.mean(scores, axis=0), rtol=1e-4)
    np.testing.assert_allclose(detector.explain(tf.constant(X))[1], np.mean(residuals, axis=0), rtol=1e-4, atol=1e-6)


def test_held_out_rows_are_not_trained_on_and_set_the_units() -> None:
    X = make_correlated_rows(400, np.random.default_rng(0))
    detector = WatchedRows(6, EfficientGANOptions(steps=50, score_units="held_out", weight=1.0, prototypes=0), seed=0)
    detector.fit(X)
    trained, calibrated = ({row.tobytes() for row in rows} for rows in (detector.trained, detector.calibrated))
    assert (len(trained), len(calibrated)) == (360, 40)
    assert not trained & calibrated
    assert float(np.mean(detector.score(tf.constant(detector.calibrated)))) == pytest.approx(1.0, rel=1e-4)


def test_each_member_passes_over_all_rows_in_each_epoch() -> None:
    detector = WatchedDraws(6, AutoencoderOptions(epochs=2, sampling="epochs", batch_size=20, members=3), seed=0)
    detector.fit(make_correlated_rows(200, np.random.default_rng(0)))
    assert len(detector.drawn) == 3
    for draws in detector.drawn:
        visits = np.bincount(np.concatenate([one.ravel() for one in draws]))
        assert set(visits) == {2}


def test_many_rows_are_measured_in_parts_as_they_would_be_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    X = make_correlated_rows(500, np.random.default_rng(0))
    detector = CountingAutoencoder(6, AutoencoderOptions(), seed=0)

    def measure() -> tuple[np.ndarray, np.ndarray, float]:
        detector.calibrate(X)
        units = np.hstack([weight.numpy() for weight in detector.members[0].units.weights])
        return units, detector.score_rows(X), detector.measure_reconstruction_error(X)

    at_once = measure()
    assert detector.most_rows == 500
    detector.most_rows = 0
    monkeypatch.setattr(network_detector, "_VALUES_AT_ONCE", 6 * 64)
    in_parts = measure()
    assert detector.most_rows == 64
    for whole, pieces in zip(at_once, in_parts, strict=True):
        np.testing.assert_allclose(pieces, whole, rtol=1e-5)


def test_masks_hide_every_column_equally_often() -> None:
    masks = draw_masks(8, 13, np.random.default_rng(0))
    assert masks.shape == (8, 13)
    np.testing.assert_array_equal(masks.sum(axis=0), 2)


def test_a_masked_network_judges_a_column_by_the_others() -> None:
    rng = np.random.default_rng(0)
    X, normal = make_correlated_rows(3000, rng), make_correlated_rows(500, rng)
    detector = EfficientGAN(6, EfficientGANOptions(steps=1500, mask_rate=0.6), seed=0)
    detector.fit(X)
    scores = detector.score(tf.constant(np.concatenate([normal, break_relations(normal, rng)])))
    assert roc_auc_score(np.repeat([0, 1], 500), np.asarray(scores)) > 0.9
    broken = normal.copy()
    broken[:, 2] += 3
    _, residual = detector.explain(tf.constant(broken))
    assert np.mean(np.argmax(residual, axis=1) == 2) > 0.5
