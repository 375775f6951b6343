"""The shared training loop, the samplers and the label-free validation rows."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from monitor.errors import ConfigError
from training.sampling import DistinctRowSampler, EpochSampler, distinct_rows
from training.trainer import EarlyStopping, LabelledRows, make_pseudo_anomalies, measure_auroc, train


class CountingSteps:
    """A training whose only weight is the number of steps made."""

    def __init__(self) -> None:
        self.weight = tf.Variable(0.0)

    def run(self, first: int, count: int) -> dict[str, float]:
        assert first == int(self.weight)
        self.weight.assign_add(count)
        return {"steps": float(self.weight)}

    def stopping(self, quality: list[float], patience: int | None) -> EarlyStopping:
        remaining = iter(quality)
        return EarlyStopping(lambda: next(remaining), [self.weight], patience, every=50, steps=10_000)


def test_training_makes_exactly_the_planned_steps() -> None:
    steps = CountingSteps()
    history = train(steps.run, 123)
    assert float(steps.weight) == 123
    assert [entry.step for entry in history.progress] == [50, 100, 123]


def test_early_stopping_waits_for_its_patience_and_restores_the_best_weights() -> None:
    steps = CountingSteps()
    history = train(steps.run, 1000, stopping=steps.stopping([0.5, 0.9, 0.8, 0.9, 0.7, 0.6], patience=3))
    assert [evaluation.step for evaluation in history.evaluations] == [50, 100, 150, 200, 250]
    assert (history.best_step, history.stopped_early) == (100, True)
    assert float(steps.weight) == 100


def test_an_improvement_renews_the_patience() -> None:
    steps = CountingSteps()
    history = train(steps.run, 250, stopping=steps.stopping([0.5, 0.4, 0.6, 0.5, 0.7], patience=2))
    assert (history.best_step, history.stopped_early) == (250, False)


def test_without_patience_all_steps_are_made_and_the_best_weights_kept() -> None:
    steps = CountingSteps()
    history = train(steps.run, 200, stopping=steps.stopping([0.9, 0.1, 0.1, 0.1], patience=None))
    assert history.progress[-1].step == 200
    assert (history.best_step, history.stopped_early) == (50, False)
    assert float(steps.weight) == 50


def test_a_loss_that_is_not_finite_stops_the_training_with_its_name_and_step() -> None:
    with pytest.raises(ConfigError, match=r"'adversarial' is nan after 100 steps; lower learning_rate"):
        train(lambda first, count: {"adversarial": float("nan") if first else 1.0}, 200)


def test_scores_that_are_no_numbers_rank_highest() -> None:
    rows = LabelledRows(X=np.zeros((4, 1), dtype=np.float32), y=np.array([0, 0, 1, 1]))
    assert measure_auroc(lambda _: np.array([0.0, 1.0, np.inf, np.nan], np.float32), rows) == 1.0


def test_an_epoch_visits_every_row_once_in_a_new_order() -> None:
    sampler = EpochSampler(60, 20, np.random.default_rng(0))
    first, second = sampler.draw(3).ravel(), sampler.draw(3).ravel()
    assert sorted(first) == sorted(second) == list(range(60))
    assert list(first) != list(second)


def test_an_epoch_leaves_out_its_incomplete_batch_and_runs_on_over_calls() -> None:
    sampler = EpochSampler(50, 20, np.random.default_rng(0))
    batches = np.concatenate([sampler.draw(1), sampler.draw(4), sampler.draw(1)])
    assert batches.shape == (6, 20)
    assert [len(set(epoch.ravel())) for epoch in np.split(batches, 3)] == [40, 40, 40]


def test_fewer_rows_than_a_batch_make_one_smaller_batch() -> None:
    assert EpochSampler(7, 20, np.random.default_rng(0)).draw(5).shape == (5, 7)


def test_distinct_rows_are_counted_and_zero_has_no_sign() -> None:
    X = np.array([[0.0, 1], [2, 3], [-0.0, 1], [2, 3], [2, 3], [4, 5]], np.float32)
    rows, counts = distinct_rows(X)
    assert rows.tolist() == [0, 1, 5]
    assert counts.tolist() == [2, 3, 1]


def test_a_distinct_row_is_drawn_by_the_square_root_of_its_copies() -> None:
    X = np.repeat(np.array([[0.0], [1.0]], np.float32), [100, 4], axis=0)
    drawn = DistinctRowSampler(X, 100, np.random.default_rng(0)).draw(500)
    assert np.mean(X[drawn] == 1.0) == pytest.approx(2 / 12, abs=0.01)


def test_pseudo_anomalies_keep_every_column_plausible_and_break_at_most_a_third_of_a_row() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 10)).astype(np.float32)
    rows = make_pseudo_anomalies(X, np.arange(10), rng)
    broken = rows.X[rows.y == 1]
    np.testing.assert_array_equal(rows.X[rows.y == 0], X)
    assert all(set(broken[:, j]) <= set(X[:, j]) for j in range(10))
    changed = (broken[:, None, :] != X).sum(axis=2).min(axis=1)
    assert (changed.min(), changed.max()) == (1, 3)


def test_pseudo_anomalies_of_one_column_are_other_rows_values() -> None:
    rng = np.random.default_rng(0)
    rows = make_pseudo_anomalies(np.arange(5, dtype=np.float32)[:, None], np.zeros(1, np.intp), rng)
    assert set(rows.y[:5]) == {0}
    assert len(rows.y) > 5
    assert all(rows.y[5:] == 1)
    assert set(rows.X[5:, 0]) <= set(range(5))


def test_pseudo_anomalies_have_one_level_of_each_category() -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate([np.eye(5, dtype=np.float32)[rng.integers(0, 5, 300)] for _ in range(3)], axis=1)
    rows = make_pseudo_anomalies(X, np.repeat(np.arange(3), 5), rng)
    broken = rows.X[rows.y == 1]
    assert len(broken) > 150
    np.testing.assert_array_equal(broken.reshape(-1, 3, 5).sum(axis=2), 1.0)


def test_the_last_weights_are_evaluated_whatever_the_steps_between() -> None:
    stopping = EarlyStopping(lambda: 0.5, [], None, every=70, steps=230)
    train(lambda _first, _count: {}, 230, stopping=stopping)
    assert [evaluation.step for evaluation in stopping.evaluations] == [50, 150, 230]
