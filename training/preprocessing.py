"""Fits the preprocessor on training rows; `monitor.model.preprocess` applies it, here and in the daemon alike."""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.model.fitted_columns import ArrayColumn, BooleanColumn, CategoricalColumn, Column, NumericColumn
from monitor.model.preprocess import Preprocessor
from monitor.model.schema import Feature, Schema
from monitor.model.shares import condense, describe

Scaling = Literal["log_zscore", "zscore", "none"]

MAX_LEVELS = 256
SOFT_CLIP = 10.0
# A non-negative column that reaches beyond this is a count, a size or a duration: its ratios matter, not its differences.
LOG_ABOVE = 20.0
# A number farther outside of the middle 98 % of its column than so many times their width is a placeholder, an overflow or an error
# of units. It does not count for the scale, which it would set by itself: all others would become one value. True values lie up to
# some hundred widths out (network flows, machine metrics), so that a placeholder such as -999 passes for one; logarithms do not.
_REACH, _REACH_OF_LOGARITHMS = 1000.0, 30.0
# Enough to say how features are distributed, which needs the whole X in memory.
_REFERENCE_ROWS = 50_000


def fit_preprocessor(frame: pl.DataFrame, schema: Schema, *, scaling: Scaling = "log_zscore") -> Preprocessor:
    """Learns levels, medians, means and standard deviations, and how each feature is distributed.

    Args:
        frame: the training rows, one column a feature: Float64, String, Boolean or Array of Float64 by kind; null is a missing
            value.
        schema: which features, in which order.
        scaling: `log_zscore` (signed log1p for wide non-negative columns, then z-score and soft clip), `zscore` (with
            soft clip) or `none` (values as they are). Arrays are scaled to [-1, 1] as a whole, with soft clip, or left as
            they are.
    """
    columns = tuple(_fit_column(frame.get_column(feature.name), feature, scaling) for feature in schema.features)
    preprocessor = Preprocessor(columns=columns, clip=None if scaling == "none" else SOFT_CLIP)
    if not frame.height:
        return preprocessor
    transformed = preprocessor.transform(frame.sample(min(frame.height, _REFERENCE_ROWS), seed=0))
    counted = condense(preprocessor, transformed.X)
    return msgspec.structs.replace(preprocessor, reference=describe(preprocessor, counted, transformed.missing))


def value_cells(preprocessor: Preprocessor) -> NDArray[np.intp]:
    """Columns of the same number make one value, as the levels of a category do: intp (n_columns,), from 0."""
    levels = np.array([isinstance(column, CategoricalColumn) for column in preprocessor.columns])
    begins = np.repeat(~levels, preprocessor.widths)
    begins[preprocessor.starts] = True
    cells: NDArray[np.intp] = np.cumsum(begins) - 1
    return cells


def _fit_column(values: pl.Series, feature: Feature, scaling: Scaling) -> Column:
    if feature.kind == "categorical":
        return _fit_categorical(values, feature.name)
    if feature.kind == "boolean":
        return BooleanColumn(feature=feature.name, typical=2 * int(values.sum()) >= max(1, values.count()))
    if feature.shape is not None:
        return _fit_array(values.drop_nulls().to_numpy(), feature.name, feature.shape, scaling)
    return _fit_numeric(values.drop_nulls().drop_nans().to_numpy(), feature.name, scaling)


def _fit_categorical(values: pl.Series, name: str) -> CategoricalColumn:
    """Keeps the most frequent levels; ties are broken by the text, so the order does not depend on the rows' order."""
    counts = values.drop_nulls().value_counts(name="n").sort(["n", values.name], descending=[True, False])
    return CategoricalColumn(feature=name, values=tuple(counts.get_column(values.name).head(MAX_LEVELS).to_list()))


def _fit_array(values: np.ndarray, name: str, shape: tuple[int, ...], scaling: Scaling) -> ArrayColumn:
    """Args: values: float64 (n_present, n_cells), may be empty: an array that is missing everywhere is constant 0."""
    typical = tuple(np.median(values, axis=0).tolist()) if len(values) else (0.0,) * math.prod(shape)
    if scaling == "none" or not len(values):
        return ArrayColumn(feature=name, shape=shape, typical=typical, centre=0.0, scale=1.0)
    low, high = float(values.min()), float(values.max())
    scale = high / 2 - low / 2  # each by itself, for the whole may be beyond float64
    return ArrayColumn(feature=name, shape=shape, typical=typical, centre=low / 2 + high / 2, scale=scale or 1.0)


def _fit_numeric(values: np.ndarray, name: str, scaling: Scaling) -> NumericColumn:
    """Args: values: float64 (n_present,), may be empty: a column that is missing everywhere is constant 0."""
    if not len(values):
        return NumericColumn(feature=name, typical=0.0, log=False, mean=0.0, sd=1.0)
    typical = float(np.median(values))
    if scaling == "none":
        return NumericColumn(feature=name, typical=typical, log=False, mean=0.0, sd=1.0)
    values = values[is_in_proportion(values, scaling)]
    log = _takes_logarithm(values, scaling)
    scaled = np.log1p(values) if log else values
    # In units of the largest value, whose square may be beyond float64.
    unit = float(np.abs(scaled).max()) or 1.0
    mean, sd = float((scaled / unit).mean()) * unit, float((scaled / unit).std()) * unit
    # Rounding leaves a constant column with a tiny sd; dividing by it would blow up the first different value.
    constant = sd <= 1e-12 * unit
    return NumericColumn(feature=name, typical=typical, log=log, mean=mean, sd=1.0 if constant else sd)


def is_in_proportion(values: np.ndarray, scaling: Scaling) -> NDArray[np.bool_]:
    """Which numbers of a column may set its scale: all but those far beyond its 1 % and 99 % quantiles.

    Args:
        values: float64 (n_present >= 1,).
        scaling: what is scaled by its logarithm is compared by it.

    Returns:
        bool (n_present,).
    """
    log = _takes_logarithm(values, scaling)
    scaled = np.log1p(values) if log else values
    low = np.quantile(scaled, 0.01, method="higher")
    high = np.quantile(scaled, 0.99, method="lower")
    if scaling == "none" or low >= high:  # of one value and rare others these are all that the column has to say
        return np.ones(len(values), dtype=bool)
    with np.errstate(over="ignore"):
        reach = (_REACH_OF_LOGARITHMS if log else _REACH) * (high - low)
        inside: NDArray[np.bool_] = (scaled >= low - reach) & (scaled <= high + reach)
    return inside


def _takes_logarithm(values: np.ndarray, scaling: Scaling) -> bool:
    return scaling == "log_zscore" and float(values.min()) >= 0 and float(values.max()) > LOG_ABOVE
