"""The four distances of a row from its reconstruction, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from training.detectors.similarity import measure_distance, measure_smoothly, smooth_absolute, square_root

pytestmark = pytest.mark.training

X = np.array([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0], [-3.0, 0.5, 1.0]], np.float32)
X_HAT = np.array([[1.0, 0.0, 2.0], [1.0, 0.0, 0.0], [-3.0, 0.5, 1.0]], np.float32)
UNIT = np.array([1.0, 2.0, 1.0], np.float32)


def test_l1_sums_the_absolute_residuals_in_units_of_their_columns() -> None:
    np.testing.assert_allclose(measure_distance("l1", tf.constant(X), tf.constant(X_HAT), UNIT), [1.0, 1.0, 0.0])


def test_l2_is_the_root_of_their_squares() -> None:
    np.testing.assert_allclose(
        measure_distance("l2", tf.constant(3 * X), tf.constant(3 * X_HAT), UNIT), [3.0, 3.0, 0.0]
    )


def test_cosine_compares_directions_and_ignores_lengths() -> None:
    same = measure_distance("cosine", tf.constant(X[:1]), tf.constant(7 * X[:1]))
    other = measure_distance("cosine", tf.constant(X[:1]), tf.constant(X_HAT[:1]))
    assert float(same[0]) == pytest.approx(0.0, abs=1e-6)
    assert float(other[0]) == pytest.approx(1 - 5 / (3 * np.sqrt(5)), rel=1e-5)


def test_cosine_of_a_row_of_zeros_or_of_huge_values_is_finite() -> None:
    rows = np.array([[0.0, 0.0, 0.0], [1e30, -1e30, 0.0]], np.float32)
    assert np.isfinite(measure_distance("cosine", tf.constant(rows), tf.constant(X_HAT[:2]))).all()


def test_kl_histogram_compares_the_values_and_not_their_columns() -> None:
    shuffled, changed = (
        np.asarray(measure_distance("kl_histogram", tf.constant(X), tf.constant(rows)))
        for rows in (X[:, ::-1].copy(), X_HAT)
    )
    np.testing.assert_allclose(shuffled, 0.0, atol=1e-6)
    assert changed[0] > 0.1
    assert changed[2] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("x_hat", [[1.0, 0.0, 2.0], [1.001, 2.001, 2.001]], ids=["far", "so close that terms cancel"])
def test_kl_histogram_is_the_divergence_of_two_histograms(x_hat: list[float]) -> None:
    width = 8 / 15

    def histogram(values: np.ndarray) -> np.ndarray:
        places = (values.astype(np.float64) + 4) / width
        shares = [np.mean(np.maximum(0, 1 - np.abs(places - centre))) for centre in range(16)]
        return 0.99 * np.array(shares) + 0.01 / 16

    rows = np.array([x_hat], np.float32)
    p, q = histogram(X[0]), histogram(rows[0])
    found = measure_distance("kl_histogram", tf.constant(X[:1]), tf.constant(rows))
    assert float(found[0]) == pytest.approx(float(np.sum(p * np.log(p / q))), rel=2e-3)


def test_a_search_by_kl_histogram_descends_on_the_divergence_of_histograms_of_bells() -> None:
    def bell(distance: np.ndarray) -> np.ndarray:
        flank = np.where(distance < 1.5, (1.5 - distance) ** 2 / 2, 0)
        return np.where(distance < 0.5, 0.75 - distance**2, flank)

    def histogram(values: np.ndarray) -> np.ndarray:
        places = (values.astype(np.float64) + 4) / (8 / 15)
        return 0.99 * np.array([np.mean(bell(np.abs(places - centre))) for centre in range(16)]) + 0.01 / 16

    p, q = histogram(X[0]), histogram(X_HAT[0])
    found = measure_smoothly("kl_histogram", tf.constant(X[:1]), tf.constant(X_HAT[:1]))
    assert float(found[0]) == pytest.approx(float(np.sum(p * np.log(p / q) - p + q)), rel=1e-4)


def test_a_search_by_kl_histogram_meets_no_corner_where_a_value_passes_the_middle_of_a_bin() -> None:
    middle = np.float32(8 / 15 / 2)  # of the ninth bin, at which the triangle has its peak
    values = tf.Variable([[middle - 1e-4], [middle + 1e-4]])
    with tf.GradientTape() as tape:
        loss = measure_smoothly("kl_histogram", tf.zeros((2, 1)), values)
    before, after = np.asarray(tape.gradient(loss, values))[:, 0]
    assert before == pytest.approx(after, rel=0.01)


def test_the_rounded_absolute_value_has_no_corner_and_approaches_the_usual_one() -> None:
    value = tf.Variable([-5.0, 0.0, 5.0])
    with tf.GradientTape() as tape:
        rounded = smooth_absolute(value)
    np.testing.assert_allclose(rounded, [4.901, 0.0, 4.901], atol=1e-3)
    np.testing.assert_allclose(tape.gradient(rounded, value), [-1.0, 0.0, 1.0], atol=1e-3)


def test_the_gradient_of_the_root_is_that_of_mathematics_and_finite_at_zero() -> None:
    square = tf.Variable([0.0, 4.0])
    with tf.GradientTape() as tape:
        root = square_root(square)
    gradient = np.asarray(tape.gradient(root, square))
    np.testing.assert_array_equal(root, [0.0, 2.0])
    assert gradient[1] == pytest.approx(0.25)
    assert np.isfinite(gradient[0])
