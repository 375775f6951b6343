"""Exports a trained detector to LiteRT and proves that the exported one gives the same scores."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from monitor.errors import BundleError
from monitor.model.scorer import Scorer
from monitor.native_output import native_stderr_held

# Largest relative difference that passes, where rounding alone does not make more.
EXPORT_TOLERANCE = 1e-4
# A network that reproduces its rows to the last digits leaves residuals that are mostly rounding. So many times what TensorFlow's own
# results move when the inputs move by one unit in the last place may lie between the two runtimes, whose sums go in other orders.
_ROUNDINGS = 32
_LAST_PLACE = np.float32(2**-23)
# More than this is no rounding.
_LARGEST_TOLERANCE = 0.05
# What stands for the size of values that are all 0.
_SMALLEST_SIZE = 1e-12
_TIMES = (np.float32(1), np.float32(10))


# Scores float32 (n,), reconstruction and residual float32 (n, d).
Results = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


class Exportable(Protocol):
    """What a detector offers to be exported."""

    @property
    def networks(self) -> Sequence[keras.layers.Layer]:
        """Everything that holds weights."""

    @property
    def serving_rows(self) -> int | None:
        """Rows that one call of the exported detector takes; None for any number."""

    def score(self, X: tf.Tensor) -> tf.Tensor:
        """X float32 (n, d) → raw scores float32 (n,)."""

    def explain(self, X: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """X float32 (n, d) → reconstruction and residual, both float32 (n, d)."""


def export_scorer(detector: Exportable, n_columns: int) -> bytes:
    """The content of `scorer.tflite`: signatures `score` and `explain`, weights shared.

    Both take any number of rows, unless the detector needs a fixed one.

    Args:
        detector: trained.
        n_columns: width d of X.
    """
    signature = [tf.TensorSpec((detector.serving_rows, n_columns), tf.float32, name="X")]
    archive = keras.export.ExportArchive()
    # A network that is not tracked is exported without an error and without its weights.
    for network in detector.networks:
        archive.track(network)
    archive.add_endpoint("score", detector.score, input_signature=signature)
    archive.add_endpoint("explain", lambda X: _named(*detector.explain(X)), input_signature=signature)
    with tempfile.TemporaryDirectory(prefix="ganwatch-export-") as folder, native_stderr_held():
        archive.write_out(str(Path(folder) / "model"), verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(Path(folder) / "model"), signature_keys=["score", "explain"]
        )
        content: bytes = converter.convert()
    return content


def _named(x_hat: tf.Tensor, residual: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"x_hat": x_hat, "residual": residual}


def verify_export(detector: Exportable, scorer: Scorer, X: NDArray[np.float32]) -> float:
    """Compares both signatures with TensorFlow.

    Args:
        detector: the original.
        scorer: the exported one.
        X: float32 (n, d), rows to compare on; ten times as extreme copies are added, of which a tenth of the difference counts:
            a residual is the small difference of two large numbers, whose rounding grows with them.

    Returns:
        The largest relative difference of the scores.

    Raises:
        BundleError: they differ by more than `EXPORT_TOLERANCE`, and by more than rounding explains.
    """
    differences = np.array([_compare(detector, scorer, X * times) / times for times in _TIMES])
    score, explain = differences.max(axis=0)
    is_exact = (differences <= EXPORT_TOLERANCE).all()  # never with NaN
    if not is_exact and not (differences <= _measure_tolerances(detector, X)).all():
        raise BundleError(
            "scorer.tflite",
            "LiteRT does not reproduce TensorFlow",
            expected=f"relative difference <= {EXPORT_TOLERANCE:g}",
            found=f"score {score:.3g}, explain {explain:.3g}",
        )
    return float(score)


def _measure_tolerances(detector: Exportable, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far scores and explanations may differ, float64 (2,)."""
    rounding = _difference(_results(detector, X), _results(detector, X * (1 + _LAST_PLACE)))
    return np.clip(_ROUNDINGS * rounding, EXPORT_TOLERANCE, _LARGEST_TOLERANCE)


def _compare(detector: Exportable, scorer: Scorer, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Largest relative difference of the scores, and that of the explanations, float64 (2,)."""
    explained = scorer.explain(X)
    return _difference(_results(detector, X), (scorer.score(X), explained.x_hat, explained.residual))


def _results(detector: Exportable, X: NDArray[np.float32]) -> Results:
    """Of TensorFlow."""
    x_hat, residual = detector.explain(tf.constant(X))
    return np.asarray(detector.score(tf.constant(X))), np.asarray(x_hat), np.asarray(residual)


def _difference(expected: Results, found: Results) -> NDArray[np.float64]:
    """That of the scores and that of the explanations, float64 (2,)."""
    explanations = [_explanation_difference(*pair) for pair in zip(expected[1:], found[1:], strict=True)]
    return np.array([score_difference(expected[0], found[0]), np.max(explanations)])


def score_difference(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The largest one, relative to the expected score, or where that is smaller to the median one, which counts as 1 at most.

    A row that is reproduced almost exactly has a score close to 0, the difference of two large numbers: its rounding is
    that of the other rows, and no threshold lies there. An absolute floor would be lenient with detectors of small scores.
    """
    if expected.shape != found.shape:
        return float("nan")
    size = np.abs(expected)
    typical = np.median(size) if size.size else 0.0
    floor = np.clip(typical, _SMALLEST_SIZE, 1.0)
    return float(np.max(np.abs(expected - found) / np.maximum(size, floor), initial=0.0))


def _explanation_difference(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The largest one, relative to 1 or to the largest value of its row, of which attributions are shares."""
    if expected.shape != found.shape:
        return float("nan")
    size = np.abs(expected).max(axis=1, keepdims=True, initial=1.0)
    return float(np.max(np.abs(expected - found) / size, initial=0.0))
