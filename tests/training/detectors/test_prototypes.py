"""Prototypes: where they lie, how far rows are from them, what an explanation makes of that."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from monitor.model.scorer import Scorer
from training.detectors.efficient_gan import EfficientGAN
from training.detectors.efficient_gan_options import EfficientGANOptions
from training.detectors.prototypes import Prototypes
from training.export import EXPORT_TOLERANCE, export_scorer, verify_export

pytestmark = pytest.mark.training


def two_lumps(n: int, seed: int = 0) -> np.ndarray:
    """Rows around (-3, 0) and, a hundredth of them, around (3, 0); each a thousand times over: float32 (n, 2)."""
    rng = np.random.default_rng(seed)
    centres = np.where(rng.random((n, 1)) < 0.01, [[3.0, 0.0]], [[-3.0, 0.0]])
    return (centres + 0.05 * rng.standard_normal((n, 2))).astype(np.float32)


def distances(prototypes: Prototypes, X: np.ndarray) -> np.ndarray:
    return np.asarray(prototypes.distance(tf.constant(X)))


def test_each_lump_has_prototypes_and_the_gap_between_them_has_none() -> None:
    X = two_lumps(5000)
    prototypes = Prototypes(16, 2)
    prototypes.place(X, np.random.default_rng(1))
    middle = np.array([[0.0, 0.0]], np.float32)
    assert distances(prototypes, two_lumps(5000, seed=1)).max() < 0.2
    assert distances(prototypes, middle)[0] > 2.5


def test_copies_of_a_row_do_not_attract_prototypes() -> None:
    X = two_lumps(400)
    repeated = np.concatenate([X, np.repeat(X[:1], 50_000, axis=0)])
    first, second = Prototypes(8, 2), Prototypes(8, 2)
    first.place(X, np.random.default_rng(1))
    second.place(repeated, np.random.default_rng(1))
    assert distances(second, X).mean() == pytest.approx(distances(first, X).mean(), rel=1e-6)


def test_the_same_generator_gives_the_same_prototypes() -> None:
    X = two_lumps(3000)
    weights = []
    for _ in range(2):
        prototypes = Prototypes(32, 2)
        prototypes.place(X, np.random.default_rng(1))
        weights.append(prototypes.get_weights()[0])
    np.testing.assert_array_equal(*weights)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_rows_than_prototypes_will_do(n: int) -> None:
    X = two_lumps(n)
    prototypes = Prototypes(256, 2)
    prototypes.place(X, np.random.default_rng(1))
    assert np.isfinite(distances(prototypes, X)).all()


def train(**changes: object) -> EfficientGAN:
    """On rows of a narrow ring, which a reconstruction follows into its middle."""
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 3000)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    detector = EfficientGAN(2, EfficientGANOptions(**{"steps": 400, "latent_dim": 2, **changes}), seed=3)
    detector.fit(ring)
    return detector


def test_a_place_without_training_rows_scores_higher_by_prototypes() -> None:
    angle = np.random.default_rng(1).uniform(0, 2 * np.pi, 1000)
    usual = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    middle = np.zeros((1, 2), np.float32)
    with_them, without = (
        float(
            np.asarray(one.score(tf.constant(middle)))[0] / np.quantile(np.asarray(one.score(tf.constant(usual))), 0.99)
        )
        for one in (train(), train(prototypes=0))
    )
    assert with_them > 3
    assert with_them > 1.5 * without


def test_a_row_that_is_a_prototype_has_a_finite_explanation() -> None:
    detector = train()
    row = detector.networks[-1].get_weights()[0][:1]
    _, residual = detector.explain(tf.constant(row))
    assert np.isfinite(np.asarray(residual)).all()


def test_an_explanation_holds_no_term_that_has_no_weight_in_the_score() -> None:
    detector = train(prototype_share=1.0)
    rows = 3 + np.random.default_rng(1).standard_normal((50, 2)).astype(np.float32)
    expected, residual = (np.asarray(part) for part in detector.explain(tf.constant(rows)))
    score = np.asarray(detector.score(tf.constant(rows)))
    np.testing.assert_allclose(residual.sum(axis=1), score, rtol=1e-3)  # Σ (x - p)² / N = N
    columns = np.argmax(np.square(rows - expected), axis=1)
    np.testing.assert_array_equal(np.argmax(residual, axis=1), columns)


def test_the_paper_and_images_have_none() -> None:
    assert EfficientGANOptions.preset("paper").prototypes == 0
    assert EfficientGANOptions(image_shape=(8, 8, 1)).prototypes == 0


def test_every_runtime_names_the_same_one_of_prototypes_that_are_equally_far() -> None:
    whole_numbers = np.random.default_rng(0).integers(0, 15, (3000, 2))
    X = ((whole_numbers - 7) / 4.3205).astype(np.float32)
    detector = EfficientGAN(2, EfficientGANOptions(members=1, encoder_widths=(8,), generator_widths=(8,)), seed=0)
    detector.prepare(X)
    detector.calibrate(X)
    scorer = Scorer(export_scorer(detector, 2), 2, source="whole numbers")
    assert verify_export(detector, scorer, X) <= EXPORT_TOLERANCE
