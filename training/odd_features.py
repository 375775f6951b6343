"""Features that a person should know of before trusting a model: of one value, missing everywhere, with absurd numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from monitor.model.fitted_columns import CategoricalColumn, NumericColumn
from monitor.model.preprocess import Preprocessor
from training.preprocessing import Scaling, is_in_proportion


@dataclass(frozen=True)
class OddFeatures:
    """What is odd about the training rows.

    Attributes:
        constant: features that had one value in all rows.
        missing: features that were missing in all rows.
        extreme: features with numbers out of all proportion, which the scaling did not count, and the farthest from the median.
    """

    constant: tuple[str, ...]
    missing: tuple[str, ...]
    extreme: dict[str, float]


def find_odd_features(preprocessor: Preprocessor, frame: pl.DataFrame, scaling: Scaling) -> OddFeatures:
    """Looks at the rows, one column a feature, that the preprocessor was fitted on by this scaling."""
    missing = tuple(
        column.feature
        for column in preprocessor.columns
        if frame.get_column(column.feature).null_count() == frame.height
    )
    constant = tuple(name for name in _constant_features(preprocessor, frame) if name not in missing)
    extreme = {}
    for column in preprocessor.columns:
        if isinstance(column, NumericColumn) and column.feature not in missing:
            values = frame.get_column(column.feature).drop_nulls().drop_nans().to_numpy()
            is_extreme = ~is_in_proportion(values, scaling) if len(values) else np.zeros(0, bool)
            if is_extreme.any():
                farthest = np.argmax(np.abs(values[is_extreme] / 2 - column.typical / 2))
                extreme[column.feature] = float(values[is_extreme][farthest])
    return OddFeatures(constant, missing, extreme)


def _constant_features(preprocessor: Preprocessor, frame: pl.DataFrame) -> tuple[str, ...]:
    """Features of one value: they cannot help, but any other value will stand out."""
    constant = []
    for column in preprocessor.columns:
        if isinstance(column, CategoricalColumn):
            lone = len(column.values) <= 1
        else:
            lone = frame.get_column(column.feature).drop_nulls().n_unique() <= 1
        if lone and (not isinstance(column, NumericColumn) or column.sd == 1.0):
            constant.append(column.feature)
    return tuple(constant)
