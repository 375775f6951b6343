"""How the values of each feature are distributed over a few bins: of the training rows in a bundle, of live rows for drift.

Everything is counted on X, which the daemon has anyway; a missing value, which X hides behind the typical one, has a bin of
its own. Of an array its mean is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitor.model.fitted_columns import kind_of, shape_of, width_of

if TYPE_CHECKING:
    from monitor.model.preprocess import Preprocessor

_QUANTILES = np.arange(1, 10) / 10
# A single value with at least this share of a numeric column is a bin by itself.
_HEAVY = 0.1
_BOOLEAN_EDGES = (1.0,)
_WITH_EDGES = ("numeric", "array")

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class FeatureShares(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One feature's distribution.

    Attributes:
        edges: of the bins of a number, or of an array's mean, ascending, in units of X: bin i holds edges[i-1] <= x < edges[i];
            empty for others, whose bins are the levels and a last one for unknown levels, or false and true.
        shares: of the bins, and last of missing values; they add up to 1.
    """

    edges: tuple[float, ...]
    shares: tuple[Share, ...]


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What rows looked like.

    Attributes:
        n_rows: how many there were.
        features: one entry a feature, in schema order.
    """

    n_rows: int
    features: tuple[FeatureShares, ...]


def check_reference(reference: Reference, preprocessor: Preprocessor) -> None:
    """Compares a reference with the columns it is about.

    Raises:
        ValueError: it is about others.
    """
    if reference.n_rows < 1 or len(reference.features) != len(preprocessor.columns):
        raise ValueError("the reference must describe each feature once, by one row at least")
    for column, width, found in zip(preprocessor.columns, preprocessor.widths, reference.features, strict=True):
        n_intervals = len(found.edges) + 1
        bins = {"numeric": n_intervals, "array": n_intervals, "categorical": width, "boolean": 2}[kind_of(column)]
        if len(found.shares) != bins + 1 or any(low >= high for low, high in pairwise(found.edges)):
            raise ValueError(f"the reference of {column.feature!r} has other bins than the feature")


def condense(preprocessor: Preprocessor, X: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is counted of rows: float32 (n_rows, n_condensed), X with one column an array, its mean.

    Args:
        preprocessor: that made X.
        X: float32 (n_rows, n_columns); it is returned itself where there is no array.
    """
    if all(shape_of(column) is None for column in preprocessor.columns):
        return X
    parts = []
    for column, part in zip(preprocessor.columns, np.split(X, preprocessor.starts[1:], axis=1), strict=True):
        parts.append(part if shape_of(column) is None else part.mean(axis=1, keepdims=True))
    return np.concatenate(parts, axis=1)


def _condensed_starts(preprocessor: Preprocessor) -> list[int]:
    """First column of each feature in what `condense` gives."""
    widths = [1 if shape_of(column) else width_of(column) for column in preprocessor.columns]
    return [0, *accumulate(widths[:-1])]


def describe(preprocessor: Preprocessor, X: NDArray[np.float32], missing: NDArray[np.bool_] | None) -> Reference:
    """Chooses the bins by these rows and counts them; numeric features get deciles.

    Args:
        preprocessor: that made X.
        X: float32 (n_rows >= 1, n_condensed), by `condense`.
        missing: bool (n_rows, n_features), or None when no value was missing.
    """
    edges: list[tuple[float, ...]] = []
    for place, (column, start) in enumerate(zip(preprocessor.columns, _condensed_starts(preprocessor), strict=True)):
        present = X[:, start] if missing is None else X[~missing[:, place], start]
        edges.append(_edges(present) if kind_of(column) in _WITH_EDGES else ())
    absent = np.zeros(len(edges), dtype=np.int64) if missing is None else missing.sum(axis=0)
    counts = count_bins(preprocessor, edges, X, absent)
    features = (
        FeatureShares(bounds, tuple((bins / len(X)).tolist())) for bounds, bins in zip(edges, counts, strict=True)
    )
    return Reference(len(X), tuple(features))


def count_bins(
    preprocessor: Preprocessor,
    edges: Sequence[tuple[float, ...]],
    X: NDArray[np.float32],
    absent: NDArray[np.int64],
) -> list[NDArray[np.int64]]:
    """Rows in each bin of each feature: int64 (n_bins + 1,), missing values last.

    Args:
        preprocessor: that made X.
        edges: of each feature, as in `FeatureShares`.
        X: float32 (n_rows, n_condensed), by `condense`.
        absent: int64 (n_features,), how many of a feature's values were missing.
    """
    typical = condense(preprocessor, preprocessor.typical_row[None, :])[0]
    counts = []
    for place, (column, start) in enumerate(zip(preprocessor.columns, _condensed_starts(preprocessor), strict=True)):
        if kind_of(column) == "categorical":
            width = preprocessor.widths[place]
            bins = X[:, start : start + width].sum(axis=0).astype(np.int64)
            hides_missing = width - 1
        else:
            bounds = edges[place] if kind_of(column) in _WITH_EDGES else _BOOLEAN_EDGES
            bins = _counted(X[:, start], bounds)
            hides_missing = int(np.searchsorted(np.array(bounds, dtype=np.float32), typical[start], side="right"))
        bins[hides_missing] -= absent[place]
        counts.append(np.append(bins, absent[place]))
    return counts


def _counted(values: NDArray[np.float32], edges: Sequence[float]) -> NDArray[np.int64]:
    """Values in each bin; several times as fast as a binary search for each value."""
    values = np.ascontiguousarray(values)
    at_least = [np.count_nonzero(values >= np.float32(edge)) for edge in edges]
    return -np.diff([len(values), *at_least, 0])


def _edges(present: NDArray[np.float32]) -> tuple[float, ...]:
    """Deciles; a value that many rows share gets an edge on either side."""
    if not len(present):
        return ()
    values, counts = np.unique(present, return_counts=True)
    heavy = values[counts >= _HEAVY * len(present)]
    deciles = np.quantile(present, _QUANTILES, method="inverted_cdf")
    above = np.nextafter(heavy, np.float32(np.inf))
    edges: list[float] = np.unique(np.concatenate([deciles, heavy, above])).astype(np.float64).tolist()
    return tuple(edges)
