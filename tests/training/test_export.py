"""What an exported detector must reproduce before it becomes a bundle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from monitor.errors import BundleError
from monitor.model.bundle import GOLDEN_TOLERANCE
from monitor.model.scorer import Scorer
from training.detectors import find_detector
from training.detectors.network_detector import NetworkDetector
from training.export import EXPORT_TOLERANCE, export_scorer, score_difference, verify_export

COLUMNS = 4


def rows() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((64, COLUMNS)).astype(np.float32)


def untrained(seed: int) -> NetworkDetector:
    kind = find_detector("autoencoder")
    return kind(COLUMNS, kind.options_type.preset("default"), seed)


@pytest.fixture(scope="module")
def served() -> Scorer:
    return Scorer(export_scorer(untrained(0), COLUMNS), COLUMNS, source="scorer.tflite")


def test_an_export_of_the_same_weights_is_the_same_detector(served: Scorer) -> None:
    assert verify_export(untrained(0), served, rows()) <= EXPORT_TOLERANCE


def test_an_export_of_other_weights_is_refused(served: Scorer) -> None:
    with pytest.raises(BundleError, match="LiteRT does not reproduce TensorFlow"):
        verify_export(untrained(1), served, rows())


def test_small_scores_have_to_be_as_exact_as_large_ones(served: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = untrained(0)
    score, scored = detector.score, served.score
    monkeypatch.setattr(served, "score", lambda X: scored(X) / np.float32(1000))
    monkeypatch.setattr(detector, "score", lambda X: score(X) / 1000)
    assert verify_export(detector, served, rows()) <= EXPORT_TOLERANCE
    monkeypatch.setattr(detector, "score", lambda X: score(X) / 1000 + np.float32(EXPORT_TOLERANCE / 10))
    with pytest.raises(BundleError, match="LiteRT does not reproduce TensorFlow"):
        verify_export(detector, served, rows())


def test_a_score_close_to_zero_is_compared_with_the_usual_ones() -> None:
    expected = np.array([0.0, 2.0, 3.0], np.float32)
    assert score_difference(expected, np.array([2e-5, 2.0, 3.0], np.float32)) == pytest.approx(2e-5)
    assert score_difference(expected / 10, np.array([2e-6, 0.2, 0.3], np.float32)) == pytest.approx(1e-5)
    assert score_difference(expected * 0, expected * 0) == 0.0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x_hat, residual: (x_hat, residual * np.float32(np.nan)),
        lambda x_hat, residual: (x_hat * np.float32(np.nan), residual),
        lambda x_hat, residual: (x_hat + np.float32(1e-3), residual),
    ],
)
def test_an_explanation_that_differs_or_is_no_number_is_refused(
    served: Scorer,
    spoil: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detector = untrained(0)
    explain = detector.explain
    monkeypatch.setattr(detector, "explain", lambda X: spoil(*explain(X)))
    with pytest.raises(BundleError, match="explain"):
        verify_export(detector, served, rows())


@pytest.mark.parametrize("kind", ["autoencoder", "efficient_gan", "ganomaly"])
@pytest.mark.parametrize("n_columns", [1, 3])
def test_rows_that_a_network_reproduces_to_the_last_digits_can_be_exported(kind: str, n_columns: int) -> None:
    column = np.random.default_rng(0).standard_normal((300, 1)).astype(np.float32)
    X = column * np.array([1.0, -0.5, 0.0], np.float32)[:n_columns]
    found = find_detector(kind)
    detector = found(n_columns, found.options_type(steps=1500, members=1), 0)
    detector.fit(X)
    scorer = Scorer(export_scorer(detector, n_columns), n_columns, source="exact rows")
    assert verify_export(detector, scorer, X[:256]) < 0.05
    # What golden records may be off on another processor, here between two runtimes, which round otherwise, too.
    difference = np.abs(scorer.score(X[:256]) - np.asarray(detector.score(tf.constant(X[:256]))))
    assert np.quantile(difference, 0.98) <= GOLDEN_TOLERANCE


def test_rounding_in_rows_that_are_ten_times_as_extreme_is_no_difference(
    served: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = untrained(0)
    score = detector.score
    rounded = np.float32(5 * EXPORT_TOLERANCE)

    def rough(X: tf.Tensor) -> tf.Tensor:
        return score(X) * (1 + rounded) if np.abs(X).max() > 10 else score(X)

    monkeypatch.setattr(detector, "score", rough)
    assert 0 < verify_export(detector, served, rows()) <= EXPORT_TOLERANCE
