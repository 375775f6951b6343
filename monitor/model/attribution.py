"""Why a record was flagged: each feature's share of the residual, with the value that was expected instead."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.model.array_values import cell_name
from monitor.model.fitted_columns import Value, shape_of
from monitor.model.preprocess import Preprocessor
from monitor.model.scorer import Explanation


class Attribution(msgspec.Struct, frozen=True, gc=False):
    """One feature's part in a score; of an array value and expectation of the cell that differs most.

    Attributes:
        feature: its name; with the cell, as in `image[14,13,0]`, for an array.
        value: what the record holds; None when it was missing.
        expected: what the detector reconstructs from the whole record, in the field's own unit.
        share: of the record's deviation, in [0, 1].
    """

    feature: str
    value: Value
    expected: Value
    share: float


def attribute(
    preprocessor: Preprocessor, frame: pl.DataFrame, explanation: Explanation, top_k: int
) -> list[list[Attribution]]:
    """The `top_k` features of each row, largest share first.

    Args:
        preprocessor: knows which columns belong to which feature.
        frame: the decoded rows (n_rows), as given to `transform`.
        explanation: of the same rows.
        top_k: features a row.
    """
    shares = feature_shares(preprocessor, explanation)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :top_k]
    top_shares = np.round(np.take_along_axis(shares, order, axis=1), 4).tolist()
    cells = _worst_cells(preprocessor, explanation)
    wanted = np.unique(order).tolist()
    names = {place: _names(preprocessor, place, cells[:, place]) for place in wanted}
    values = {place: _values(frame.get_column(preprocessor.feature_names[place]), cells[:, place]) for place in wanted}
    expected = preprocessor.inverse(explanation.x_hat, order, np.take_along_axis(cells, order, axis=1))
    return [
        [
            Attribution(names[place][row], values[place][row], *rest)
            for place, *rest in zip(places, expected[row], top_shares[row], strict=True)
        ]
        for row, places in enumerate(order.tolist())
    ]


def _worst_cells(preprocessor: Preprocessor, explanation: Explanation) -> NDArray[np.intp]:
    """Of each array the cell that contributes most, row by row; 0 for other features: intp (n_rows, n_features)."""
    cells = np.zeros((len(explanation.residual), len(preprocessor.columns)), dtype=np.intp)
    for place, (column, start) in enumerate(zip(preprocessor.columns, preprocessor.starts.tolist(), strict=True)):
        if shape_of(column) is not None:
            own = explanation.residual[:, start : start + preprocessor.widths[place]]
            cells[:, place] = own.argmax(axis=1)
    return cells


def _names(preprocessor: Preprocessor, place: int, cells: NDArray[np.intp]) -> Sequence[str]:
    """What a feature is called in each row: with the cell where it is an array."""
    name, shape = preprocessor.feature_names[place], shape_of(preprocessor.columns[place])
    if shape is None:
        return [name] * len(cells)
    return [cell_name(name, cell) for cell in np.transpose(np.unravel_index(cells, shape)).tolist()]


def _values(values: pl.Series, cells: NDArray[np.intp]) -> Sequence[Value]:
    """What each row holds: of an array the number in the cell."""
    if not isinstance(values.dtype, pl.Array):
        return values.to_list()
    return pl.Series(values.to_numpy()[np.arange(len(cells)), cells]).set(values.is_null(), None).to_list()


def feature_shares(preprocessor: Preprocessor, explanation: Explanation) -> NDArray[np.float64]:
    """Each feature's share of the deviation: float64 (n_rows, n_features), rows sum to 1 (or 0).

    A feature deviates as much as that of its columns which deviates most: a sum would name the one with most levels.
    """
    by_feature = np.maximum.reduceat(explanation.residual.astype(np.float64), preprocessor.starts, axis=1)
    total = by_feature.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(by_feature, total, out=np.zeros_like(by_feature), where=total > 0)
    return shares
