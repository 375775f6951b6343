"""Why a record was flagged: each feature's share of the residual, with the value that was expected instead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.model.preprocess import Preprocessor
from monitor.model.scorer import Explanation

Value = float | str | bool | None
_SIGNIFICANT_DIGITS = 6


@dataclass(frozen=True)
class Attribution:
    """One feature's part in a score.

    Attributes:
        feature: its name.
        value: what the record holds; None when it was missing.
        expected: what the detector reconstructs from the whole record, in the field's own unit.
        share: of the record's whole residual, in [0, 1].
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
    by_feature = np.add.reduceat(explanation.residual.astype(np.float64), preprocessor.starts, axis=1)
    total = by_feature.sum(axis=1, keepdims=True)
    shares = np.divide(by_feature, total, out=np.zeros_like(by_feature), where=total > 0)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :top_k]
    return [
        [_one(preprocessor, values, explanation.x_hat[row], int(place), shares[row, place]) for place in order[row]]
        for row, values in enumerate(frame.select(preprocessor.feature_names).iter_rows())
    ]


def _one(
    preprocessor: Preprocessor, values: tuple[Value, ...], x_hat: NDArray[np.float32], place: int, share: np.float64
) -> Attribution:
    expected = preprocessor.inverse(place, x_hat)
    if isinstance(expected, float):
        expected = float(f"{expected:.{_SIGNIFICANT_DIGITS}g}")
    return Attribution(
        feature=preprocessor.feature_names[place], value=values[place], expected=expected, share=round(float(share), 4)
    )
