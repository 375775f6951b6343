"""AnoGAN's search: where it arrives, that rows do not meet, and that LiteRT finds the same codes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from monitor.model.scorer import Scorer
from tests.training.detectors.material import break_relations, make_correlated_rows
from training.detectors.anogan import AnoGAN, AnoGANOptions
from training.detectors.latent_search import search_latent
from training.detectors.networks import Rounded
from training.export import export_scorer, verify_export

pytestmark = pytest.mark.training


def test_a_search_arrives_at_the_minimum_of_each_row() -> None:
    target = tf.constant([[1.0, -2.0], [0.5, 0.0]])
    found = search_latent(
        lambda z: tf.reduce_sum(tf.square(z - target), axis=1), tf.zeros((2, 2)), steps=200, learning_rate=0.1
    )
    np.testing.assert_allclose(found, target, atol=1e-3)


def test_a_rows_search_is_the_same_beside_a_row_of_huge_loss() -> None:
    target = np.array([[1.0, -2.0]], np.float32)
    beside = np.concatenate([target, np.full((1, 2), 1e6, np.float32)])

    def search(targets: np.ndarray) -> np.ndarray:
        return np.asarray(
            search_latent(
                lambda z: tf.reduce_sum(tf.square(z - targets), axis=1),
                tf.zeros(targets.shape),
                steps=30,
                learning_rate=0.1,
            )
        )

    np.testing.assert_array_equal(search(target)[0], search(beside)[0])


def test_the_rounded_rectifier_is_the_usual_one_away_from_its_corner() -> None:
    rows = tf.constant([[-10.0, 0.0, 10.0]])
    np.testing.assert_allclose(Rounded(0.1)(rows), [[-1.0, 0.0, 10.0]], atol=0.05)


@pytest.fixture(scope="module")
def searching() -> AnoGAN:
    detector = AnoGAN(6, AnoGANOptions(search="latent", search_steps=25, steps=300), seed=0)
    detector.fit(make_correlated_rows(1000, np.random.default_rng(0)))
    return detector


@pytest.fixture(scope="module")
def served(searching: AnoGAN) -> Scorer:
    return Scorer(export_scorer(searching, 6), 6, source="scorer.tflite")


def make_rows() -> np.ndarray:
    rng = np.random.default_rng(1)
    normal = make_correlated_rows(100, rng)
    return np.concatenate([normal, break_relations(normal, rng)])


def test_lite_rt_finds_the_codes_that_tensorflow_finds(searching: AnoGAN, served: Scorer) -> None:
    assert verify_export(searching, served, make_rows()) <= 1e-4


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_a_served_search_is_bit_equal_for_every_batch_size(served: Scorer, batch_size: int) -> None:
    X = make_rows()[50:120]
    batches = [X[start : start + batch_size] for start in range(0, len(X), batch_size)]
    np.testing.assert_array_equal(np.concatenate([served.score(batch) for batch in batches]), served.score(X))
    explained = np.concatenate([served.explain(batch).residual for batch in batches])
    np.testing.assert_array_equal(explained, served.explain(X).residual)


def test_a_served_search_does_not_depend_on_the_place_in_the_batch(served: Scorer) -> None:
    X = make_rows()
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_array_equal(served.score(X[order]), served.score(X)[order])


def test_a_longer_search_comes_closer() -> None:
    X = make_correlated_rows(200, np.random.default_rng(0))
    errors = []
    for steps in (2, 100):
        detector = AnoGAN(6, AnoGANOptions(search="latent", search_steps=steps), seed=0)
        x_hat, _ = detector.explain(tf.constant(X))
        errors.append(float(np.mean(np.abs(X - x_hat))))
    assert errors[1] < errors[0]
