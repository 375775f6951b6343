"""Chooses the rows of each training step. Draws from one numpy generator; never looks at values beyond equality."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class RowSampler(Protocol):
    """A stream of mini-batches of row numbers.

    Attributes:
        batch_size: rows of a batch.
        n_rows: rows that it chooses from.
    """

    batch_size: int
    n_rows: int

    def draw(self, steps: int) -> NDArray[np.int32]:
        """Row numbers, int32 (steps, batch_size), of the next steps."""
        ...


class DistinctRowSampler:
    """Draws a distinct row with probability ∝ √(its number of copies), with replacement.

    Logs repeat themselves: without this a row that occurs a hundred thousand times is nearly all that a network sees.
    """

    def __init__(self, X: NDArray[np.float32], batch_size: int, rng: np.random.Generator) -> None:
        self._rows, counts = distinct_rows(X)
        self.n_rows = len(self._rows)
        self.batch_size = batch_size
        self._rng = rng
        shares = np.cumsum(np.sqrt(counts))
        self._cumulative = shares / shares[-1]

    def draw(self, steps: int) -> NDArray[np.int32]:
        """Row numbers, int32 (steps, batch_size), of the next steps."""
        uniform = self._rng.random((steps, self.batch_size))
        return self._rows[np.searchsorted(self._cumulative, uniform, side="right")].astype(np.int32)


class EpochSampler:
    """Passes over all rows in a fresh order each epoch; the last, incomplete batch of an epoch is left out."""

    def __init__(self, n_rows: int, batch_size: int, rng: np.random.Generator) -> None:
        self.n_rows = n_rows
        self.batch_size = min(batch_size, n_rows)
        self._rng = rng
        self._waiting = np.empty((0, self.batch_size), np.int32)

    def draw(self, steps: int) -> NDArray[np.int32]:
        """Row numbers, int32 (steps, batch_size), of the next steps."""
        while len(self._waiting) < steps:
            self._waiting = np.concatenate([self._waiting, self._epoch()])
        drawn, self._waiting = self._waiting[:steps], self._waiting[steps:]
        return drawn

    def _epoch(self) -> NDArray[np.int32]:
        order = self._rng.permutation(self.n_rows).astype(np.int32)
        whole = self.n_rows // self.batch_size * self.batch_size
        return order[:whole].reshape(-1, self.batch_size)


def distinct_rows(X: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first row number of each distinct row, ascending, and how often it occurs.

    Args:
        X: float32 (n, d).
    """
    as_bytes = np.ascontiguousarray(X + np.float32(0.0)).view(np.dtype((np.void, X.shape[1] * X.itemsize)))
    _, first, counts = np.unique(as_bytes.ravel(), return_index=True, return_counts=True)
    order = np.argsort(first)
    return first[order], counts[order]
