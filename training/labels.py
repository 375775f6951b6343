"""Labels: which rows of a file are anomalies, in whatever words it says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.errors import ConfigError
from monitor.model.tables import read_sample

NORMAL_LABELS = frozenset({"0", "false", "normal", "normal.", "no", "inlier", "benign"})
_ALL_ROWS = 2**62
# So many labels are listed in an error.
_LISTED = 8


def read_labels(path: Path, label: str) -> pl.Series:
    """The label column of a file.

    Raises:
        ConfigError: the file cannot be read or has no such column.
    """
    frame = read_sample(path, _ALL_ROWS)
    if label not in frame.columns:
        raise ConfigError("--label", f"{path} has no column {label!r}; it has {', '.join(frame.columns)}")
    return frame.get_column(label)


def parse_labels(values: pl.Series, anomaly: Sequence[str] = ()) -> NDArray[np.bool_]:
    """Bool (n,), true = anomaly; a row without a label is none.

    Args:
        values: the label column.
        anomaly: the labels that mean anomaly; without any, all that are not 0, false, or a word for normal.

    Raises:
        ConfigError: the column holds lists or objects.
    """
    words = _words(values)
    if anomaly:
        return words.is_in(_words(pl.Series(anomaly, dtype=pl.String)).to_list()).fill_null(False).to_numpy()
    return (~words.is_in(sorted(NORMAL_LABELS))).fill_null(False).to_numpy()


def labels_of_no_row(values: pl.Series, anomaly: Sequence[str]) -> tuple[str, ...]:
    """Which of the labels that mean anomaly no row has."""
    found = set(_words(values).unique().to_list())
    return tuple(
        label
        for label, word in zip(anomaly, _words(pl.Series(anomaly, dtype=pl.String)), strict=True)
        if word not in found
    )


def has_label(values: pl.Series) -> NDArray[np.bool_]:
    """Bool (n,), which rows of a label column hold one."""
    return _words(values).is_not_null().to_numpy()


def list_labels(values: pl.Series) -> str:
    """The labels of a column with their numbers of rows, most frequent first, for an error."""
    counts = _words(values).drop_nulls().value_counts(name="n").sort("n", values.name, descending=[True, False])
    listed = [f"{word!r} ({n} rows)" for word, n in counts.head(_LISTED).iter_rows()]
    return ", ".join([*listed, "…"] if counts.height > _LISTED else listed) or "all missing"


def _words(values: pl.Series) -> pl.Series:
    """In one spelling, whatever the case, the blanks around and the type of the column: 1, 1.0 and " 1 " are "1"; null where empty.

    Raises:
        ConfigError: the column holds lists or objects.
    """
    if values.dtype.is_nested():
        raise ConfigError("--label", f"column {values.name!r} holds lists or objects; a label is one word or number")
    if values.dtype == pl.Object:  # words and numbers mixed
        values = pl.Series(
            values.name, [None if value is None else str(value) for value in values.to_list()], dtype=pl.String
        )
    present = values.fill_nan(None) if values.dtype.is_float() else values
    words = present.cast(pl.String).str.strip_chars().str.to_lowercase().str.replace(r"^(-?[0-9]+)\.0$", "$1")
    return words.set(words == "", None)
