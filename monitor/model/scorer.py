"""Runs the exported network with LiteRT. Bit-equal for every batch size and thread count; no BLAS, no TensorFlow."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.errors import BundleError
from monitor.model.interpreter import input_shape, load_interpreter, run_in_pieces
from monitor.native_output import native_stderr_held


@dataclass(frozen=True)
class Explanation:
    """What the detector expected of each row.

    Attributes:
        x_hat: float32 (n_rows, n_columns), the reconstruction in the units of X.
        residual: float32 (n_rows, n_columns), >= 0, each column's deviation in the model's own units; not every detector's
            score is their sum.
    """

    x_hat: NDArray[np.float32]
    residual: NDArray[np.float32]


class Scorer:
    """The two signatures of a `scorer.tflite`; each thread that scores gets an interpreter of its own."""

    def __init__(self, model: bytes, n_columns: int, *, source: object, num_threads: int = 1) -> None:
        """Loads the network.

        Args:
            model: content of `scorer.tflite`.
            n_columns: width of X that the preprocessor makes.
            source: the file, for errors.
            num_threads: threads of one call; more than one pays only for very wide networks.

        Raises:
            BundleError: not a LiteRT model, or one of other signatures or width.
        """
        self._model = model
        self._num_threads = num_threads
        self._runners = threading.local()
        try:
            signatures = set(self._interpreter().get_signature_list())
        except (ValueError, RuntimeError) as error:
            raise BundleError(source, f"is not a LiteRT model: {error}") from error
        if not {"score", "explain"} <= signatures:
            raise BundleError(
                source, "lacks a signature", expected="score, explain", found=", ".join(sorted(signatures)) or "none"
            )
        self._n_columns = n_columns
        try:
            self._fixed_rows, width = input_shape(self._runner("score"))
            if width == n_columns:
                self._try_both()
        except (LookupError, ValueError, RuntimeError) as error:
            raise BundleError(source, f"cannot be run: {error}") from error
        if width != n_columns:
            raise BundleError(
                source, "takes rows of another width than preprocess.json makes", expected=n_columns, found=width
            )

    def _try_both(self) -> None:
        """Runs each signature once: a damaged network may fail only then."""
        row = np.zeros((1, self._n_columns), dtype=np.float32)
        with native_stderr_held():  # LiteRT announces its delegate when it first runs
            self.score(row)
            explanation = self.explain(row)
        if not explanation.x_hat.shape == explanation.residual.shape == row.shape:
            raise ValueError(f"x_hat and residual must be {row.shape}")

    def _interpreter(self) -> Any:
        return load_interpreter(self._model, self._num_threads)

    def _runner(self, signature: str) -> Any:
        """This thread's runner of a signature; both share an interpreter, which stays alive with them."""
        if not hasattr(self._runners, "score"):
            interpreter = self._interpreter()
            self._runners.score = interpreter.get_signature_runner("score")
            self._runners.explain = interpreter.get_signature_runner("explain")
        return getattr(self._runners, signature)

    def score(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw scores, float32 (n_rows,): higher is more anomalous; the scale is the detector's own.

        Args:
            X: float32 (n_rows, n_columns).
        """
        if len(X) == 0:
            return np.zeros(0, dtype=np.float32)
        (scores,) = run_in_pieces(self._runner("score"), self._checked(X), self._fixed_rows).values()
        return scores.astype(np.float32, copy=False).reshape(len(X))

    def explain(self, X: NDArray[np.float32]) -> Explanation:
        """Reconstruction and per-column residual.

        Args:
            X: float32 (n_rows, n_columns).
        """
        if len(X) == 0:
            return Explanation(np.zeros_like(X), np.zeros_like(X))
        outputs = run_in_pieces(self._runner("explain"), self._checked(X), self._fixed_rows)
        return Explanation(x_hat=outputs["x_hat"], residual=outputs["residual"])

    def _checked(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        if X.ndim != 2 or X.shape[1] != self._n_columns or X.dtype != np.float32:
            raise ValueError(f"X must be float32 (n_rows, {self._n_columns}), got {X.dtype} {X.shape}")
        return np.ascontiguousarray(X)
