"""Anomalies within an array, of the three kinds of `training.suite`. They are made of cells as those of records are of features."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

# Of the cells, in a row, that are shifted or foreign.
_RUN_SHARE = 0.1


def swap_cells(rows: pl.Series, donors: pl.Series, share: NDArray[np.float64], rng: np.random.Generator) -> pl.Series:
    """Some cells come from other arrays.

    Args:
        rows: Array of Float64, n; a missing one stays missing.
        donors: the same, of which cells are taken; a missing one gives none.
        share: float64 (n,), of the cells, in (0, 1).
        rng: decides which.
    """
    values, others = rows.to_numpy(), donors.to_numpy()
    taken = (rng.random(values.shape) < share[:, None]) & ~np.isnan(others)
    return _as_column(np.where(taken, others, values), rows)


def shift_cells(rows: pl.Series, distance: NDArray[np.float64], rng: np.random.Generator) -> pl.Series:
    """A tenth of the cells, in a row, move; `distance`: float64 (n,)."""
    values = rows.to_numpy()
    return _as_column(values + np.where(_runs(values, rng), distance[:, None], 0.0), rows)


def replace_cells(rows: pl.Series, foreign: NDArray[np.float64], rng: np.random.Generator) -> pl.Series:
    """A tenth of the cells, in a row, become the number given for each array; `foreign`: float64 (n,)."""
    values = rows.to_numpy()
    return _as_column(np.where(_runs(values, rng), foreign[:, None], values), rows)


def _runs(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A stretch of cells of each array, at least one: bool (n, n_cells)."""
    n, size = values.shape
    length = max(1, round(_RUN_SHARE * size))
    first = rng.integers(0, size - length + 1, n)[:, None]
    cells = np.arange(size)
    behind: NDArray[np.intp] = cells - first
    return np.asarray((behind >= 0) & (behind < length))


def _as_column(values: NDArray[np.float64], like: pl.Series) -> pl.Series:
    column = pl.Series(like.name, values.reshape(-1)).reshape((-1, values.shape[1]))
    return column.set(like.is_null(), None) if like.null_count() else column
