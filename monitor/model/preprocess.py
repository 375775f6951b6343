"""Turns decoded records into the feature matrix. It is fitted in `training.preprocessing` and only applied here.

Every operation is element by element, without BLAS, so a row's result does not depend on its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.model.fitted_columns import (
    ArrayColumn,
    BooleanColumn,
    CategoricalColumn,
    Column,
    NumericColumn,
    Positive,
    Value,
    centre_and_scale,
    kind_of,
    width_of,
)
from monitor.model.shares import Reference, check_reference


@dataclass(frozen=True)
class Transformed:
    """What `Preprocessor.transform` gives.

    Attributes:
        X: float32 (n_rows, n_columns), finite.
        missing: bool (n_rows, n_features): values that were absent or null; None when there were none at all.
    """

    X: NDArray[np.float32]
    missing: NDArray[np.bool_] | None


class Preprocessor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The fitted transform, one entry a feature, in schema order.

    Attributes:
        columns: how each feature becomes columns of X.
        clip: soft bound of numbers, `clip · tanh(z / clip)`; None leaves them unbounded.
        reference: how the training rows are distributed; None in bundles that are older than this field.
    """

    columns: tuple[Column, ...]
    clip: Positive | None
    reference: Reference | None = None

    def __post_init__(self) -> None:
        if self.reference is not None:
            check_reference(self.reference, self)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """How many columns of X each feature takes."""
        return tuple(map(width_of, self.columns))

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        """First column of X of each feature: intp (n_features,)."""
        return np.concatenate([[0], np.cumsum(self.widths)[:-1]]).astype(np.intp)

    @cached_property
    def n_columns(self) -> int:
        """Width of X."""
        return sum(self.widths)

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Feature names, in order."""
        return tuple(column.feature for column in self.columns)

    @cached_property
    def typical_row(self) -> NDArray[np.float32]:
        """X of a record that holds no value at all: float32 (n_columns,)."""
        dtypes = {"numeric": pl.Float64(), "categorical": pl.String(), "boolean": pl.Boolean()}
        nothing = [
            pl.Series(column.feature, [None], dtypes.get(kind_of(column)) or pl.Array(pl.Float64(), width_of(column)))
            for column in self.columns
        ]
        row: NDArray[np.float32] = self.transform(pl.DataFrame(nothing)).X[0]
        return row

    def transform(self, frame: pl.DataFrame) -> Transformed:
        """Computes X.

        Args:
            frame: one column a feature: Float64, String, Boolean or Array of Float64 by kind; null (or NaN) is a missing value.
        """
        X = np.zeros((frame.height, self.n_columns), dtype=np.float32)
        missing = self._fill_numeric(frame, X)
        self._fill_others(frame, X, missing)
        self._fill_arrays(frame, X, missing)
        return Transformed(X, _as_matrix(missing, frame.height, len(self.columns)))

    def _fill_others(self, frame: pl.DataFrame, X: NDArray[np.float32], missing: dict[int, NDArray[np.bool_]]) -> None:
        """One-hot levels and booleans; one native call computes them all, since each may wait for another thread."""
        if not self._expressions:
            return
        first_cells = np.arange(0, X.size, self.n_columns)
        for place, values in zip(self._other_places, frame.select(self._expressions).iter_columns(), strict=True):
            column, start = self.columns[place], int(self.starts[place])
            original = frame.get_column(column.feature)
            if original.null_count():
                missing[place] = original.is_null().to_numpy()
            if isinstance(column, CategoricalColumn):
                X.reshape(-1)[first_cells + (start + values.to_numpy())] = 1.0
            else:
                X[:, start] = values.to_numpy()

    def _fill_arrays(self, frame: pl.DataFrame, X: NDArray[np.float32], missing: dict[int, NDArray[np.bool_]]) -> None:
        for place, column in enumerate(self.columns):
            if not isinstance(column, ArrayColumn):
                continue
            values = np.array(frame.get_column(column.feature).to_numpy(), dtype=np.float64)
            absent = np.isnan(values).any(axis=1)
            if absent.any():
                missing[place] = np.asarray(absent)
                values[absent] = column.typical
            with np.errstate(over="ignore"):
                values -= column.centre
                values /= column.scale
            start = int(self.starts[place])
            X[:, start : start + self.widths[place]] = _bounded(values, self.clip)

    @cached_property
    def _other_places(self) -> list[int]:
        return [
            place for place, column in enumerate(self.columns) if isinstance(column, CategoricalColumn | BooleanColumn)
        ]

    @cached_property
    def _expressions(self) -> list[pl.Expr]:
        """Level of each category (the last one for unknown or missing values), 0 or 1 of each boolean: Int64 columns."""
        return [_expression(column) for column in self.columns if isinstance(column, CategoricalColumn | BooleanColumn)]

    def _fill_numeric(self, frame: pl.DataFrame, X: NDArray[np.float32]) -> dict[int, NDArray[np.bool_]]:
        """All numeric columns at once, feature by feature in memory, in place; returns where values are missing."""
        numeric = self._numeric
        values = np.empty((len(numeric.places), frame.height), dtype=np.float64)
        for row, name in enumerate(numeric.names):
            values[row] = frame.get_column(name).to_numpy()
        missing: dict[int, NDArray[np.bool_]] = {}
        for row in np.flatnonzero(np.isnan(values).any(axis=1)).tolist():
            absent = missing[int(numeric.places[row])] = np.isnan(values[row])
            values[row, absent] = numeric.typical[row]
        logged = values[: numeric.n_log]
        np.copysign(np.log1p(np.abs(logged)), logged, out=logged)
        # A float64 near its limit may overflow here; the soft clip (or float32 infinity, refused below) deals with it.
        with np.errstate(over="ignore"):
            values -= numeric.mean
            values /= numeric.sd
        X[:, self.starts[numeric.places]] = _bounded(values, self.clip).T
        return missing

    @cached_property
    def _numeric(self) -> _NumericColumns:
        columns = [(place, column) for place, column in enumerate(self.columns) if isinstance(column, NumericColumn)]
        columns.sort(key=lambda entry: not entry[1].log)
        return _NumericColumns(
            places=np.array([place for place, _ in columns], dtype=np.intp),
            names=[column.feature for _, column in columns],
            n_log=sum(column.log for _, column in columns),
            typical=np.array([column.typical for _, column in columns]),
            mean=np.array([column.mean for _, column in columns]).reshape(-1, 1),
            sd=np.array([column.sd for _, column in columns]).reshape(-1, 1),
        )

    def inverse(
        self, x_hat: NDArray[np.float32], places: NDArray[np.intp], cells: NDArray[np.intp] | None = None
    ) -> list[list[Value]]:
        """The values, in the field's own unit, that reconstructions stand for; numbers to six significant digits.

        Args:
            x_hat: float32 (n_rows, n_columns), reconstructed rows of X.
            places: intp (n_rows, k), numbers of the features wanted of each row.
            cells: intp (n_rows, k), of an array the cell that is wanted, row by row, and 0 for other features; the first one
                when None.
        """
        values = np.empty(places.shape, dtype=object)
        for place in np.unique(places).tolist():
            column, start = self.columns[place], int(self.starts[place])
            wanted = places == place
            rows = np.nonzero(wanted)[0]
            if isinstance(column, CategoricalColumn):
                levels: tuple[Value, ...] = column.values or (None,)
                chosen = np.argmax(x_hat[rows, start : start + len(levels)], axis=1)
                values[wanted] = np.array(levels, dtype=object)[chosen]
            elif isinstance(column, BooleanColumn):
                values[wanted] = (x_hat[rows, start] >= 0.5).tolist()
        numeric = ~np.isnan(self._scales[places])
        columns = self.starts[places] if cells is None else self.starts[places] + cells
        z = x_hat[np.nonzero(numeric)[0], columns[numeric]].astype(np.float64)
        values[numeric] = _rounded(self._numeric_values(z, places[numeric])).tolist()
        return values.tolist()  # type: ignore[no-any-return]

    def _numeric_values(self, z: NDArray[np.float64], places: NDArray[np.intp]) -> NDArray[np.float64]:
        """Undoes the soft clip, the z-score and the logarithm of numbers of the features `places`."""
        if self.clip is not None:
            z = self.clip * np.arctanh(np.clip(z / self.clip, -_TANH_LIMIT, _TANH_LIMIT))
        values = z * self._scales[places] + self._means[places]
        powers = np.copysign(np.expm1(np.minimum(np.abs(values), _EXPM1_LIMIT)), values)
        return np.where(self._logs[places], powers, values)

    @cached_property
    def _scales(self) -> NDArray[np.float64]:
        """float64 (n_features,); NaN where the feature holds no numbers."""
        return np.array([centre_and_scale(column)[1] for column in self.columns])

    @cached_property
    def _means(self) -> NDArray[np.float64]:
        return np.array([centre_and_scale(column)[0] for column in self.columns])

    @cached_property
    def _logs(self) -> NDArray[np.bool_]:
        return np.array([isinstance(column, NumericColumn) and column.log for column in self.columns])

    def to_json(self) -> bytes:
        """The content of `preprocess.json`."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def from_json(cls, content: bytes) -> Preprocessor:
        """Reads `preprocess.json`.

        Raises:
            msgspec.DecodeError: it is not what `to_json` writes.
        """
        return msgspec.json.decode(content, type=cls)


def _expression(column: CategoricalColumn | BooleanColumn) -> pl.Expr:
    values = pl.col(column.feature)
    if isinstance(column, CategoricalColumn):
        levels = values.cast(pl.Enum(column.values), strict=False).to_physical()
        return levels.cast(pl.Int64).fill_null(len(column.values))
    return values.fill_null(column.typical).cast(pl.Int64)


def _as_matrix(missing: dict[int, NDArray[np.bool_]], n_rows: int, n_features: int) -> NDArray[np.bool_] | None:
    """Bool (n_rows, n_features); None when nothing is missing."""
    if not missing:
        return None
    matrix = np.zeros((n_rows, n_features), dtype=np.bool_)
    for place, absent in missing.items():
        matrix[:, place] = absent
    return matrix


def _bounded(values: NDArray[np.float64], clip: float | None) -> NDArray[np.float64]:
    """The soft clip, in place; without one, at least what float32 can hold."""
    if clip is None:
        return np.clip(values, -_FLOAT32_MAX, _FLOAT32_MAX, out=values)
    values /= clip
    np.tanh(values, out=values)
    values *= clip
    return values


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """To six significant digits."""
    with np.errstate(divide="ignore"):
        magnitude = np.floor(np.log10(np.abs(values)))
    places = np.clip(5 - np.where(np.isfinite(magnitude), magnitude, 0), -290, 290)
    unit = 10.0 ** np.abs(places)  # exact up to 1e22, so that the nearest float64 of the short decimal results
    with np.errstate(over="ignore"):
        rounded = np.where(places < 0, np.round(values / unit) * unit, np.round(values * unit) / unit)
    return np.where(np.isfinite(rounded), rounded, values)


@dataclass(frozen=True)
class _NumericColumns:
    """Parameters of all numeric features side by side, those with a logarithm first.

    Attributes:
        places: intp (n_numeric,), numbers of the features.
        names: of the features.
        n_log: how many have a logarithm.
        typical: float64 (n_numeric,).
        mean: float64 (n_numeric, 1).
        sd: float64 (n_numeric, 1).
    """

    places: NDArray[np.intp]
    names: list[str]
    n_log: int
    typical: NDArray[np.float64]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]


_FLOAT32_MAX = float(np.finfo(np.float32).max)
_TANH_LIMIT = 1 - 1e-7
_EXPM1_LIMIT = 700.0
