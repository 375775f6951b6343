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

# Largest relative difference that passes.
EXPORT_TOLERANCE = 1e-4
# What stands for the size of values that are all 0.
_SMALLEST_SIZE = 1e-12
_TIMES = (np.float32(1), np.float32(10))


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
        BundleError: they differ by more than `EXPORT_TOLERANCE`.
    """
    differences = np.array([_compare(detector, scorer, X * times) / times for times in _TIMES])
    score, explain = differences.max(axis=0)
    if not differences.max() <= EXPORT_TOLERANCE:  # also refuses NaN
        raise BundleError(
            "scorer.tflite",
            "LiteRT does not reproduce TensorFlow",
            expected=f"relative difference <= {EXPORT_TOLERANCE:g}",
            found=f"score {score:.3g}, explain {explain:.3g}",
        )
    return float(score)


def _compare(detector: Exportable, scorer: Scorer, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Largest relative difference of the scores, and that of the explanations, float64 (2,)."""
    x_hat, residual = (np.asarray(part) for part in detector.explain(tf.constant(X)))
    explained = scorer.explain(X)
    explanations = [
        _explanation_difference(x_hat, explained.x_hat),
        _explanation_difference(residual, explained.residual),
    ]
    return np.array(
        [score_difference(np.asarray(detector.score(tf.constant(X))), scorer.score(X)), np.max(explanations)]
    )


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
