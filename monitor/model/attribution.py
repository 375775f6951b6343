"""Why a record was flagged: each feature's share of the residual, with the value that was expected instead."""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.model.preprocess import Preprocessor, Value
from monitor.model.scorer import Explanation


class Attribution(msgspec.Struct, frozen=True, gc=False):
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
    shares = feature_shares(preprocessor, explanation)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :top_k]
    top_shares = np.round(np.take_along_axis(shares, order, axis=1), 4).tolist()
    names = preprocessor.feature_names
    values = {place: frame.get_column(names[place]).to_list() for place in np.unique(order).tolist()}
    expected = preprocessor.inverse(explanation.x_hat, order)
    return [
        [
            Attribution(names[place], values[place][row], *rest)
            for place, *rest in zip(places, expected[row], top_shares[row], strict=True)
        ]
        for row, places in enumerate(order.tolist())
    ]


def feature_shares(preprocessor: Preprocessor, explanation: Explanation) -> NDArray[np.float64]:
    """Shares of the residual summed back from columns to features: float64 (n_rows, n_features), rows sum to 1 (or 0)."""
    by_feature = np.add.reduceat(explanation.residual.astype(np.float64), preprocessor.starts, axis=1)
    total = by_feature.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(by_feature, total, out=np.zeros_like(by_feature), where=total > 0)
    return shares
