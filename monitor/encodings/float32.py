"""Packed records: the features in the schema's order, four bytes each. A whole micro-batch is decoded without touching a record."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import overload

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.errors import InvalidRecord
from monitor.model.array_values import cell_name
from monitor.model.decode import Decoded
from monitor.model.raw_values import RawValues
from monitor.model.schema import Feature, Schema


@dataclass(frozen=True)
class Float32Decoder:
    """Decodes packed little-endian float32.

    A number is a numeric feature's value, 0 or 1 for a boolean, or a place in the table of a categorical feature's values; an
    array takes one for each of its cells, row by row. NaN is a missing value, an array of nothing but NaN a missing array. An
    infinite number is refused, and so is any other that stands for nothing.

    Attributes:
        schema: the features, and in its encoding the values of the categorical ones.
    """

    schema: Schema

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """See `monitor.model.decode.RecordDecoder`."""
        values = values if isinstance(values, RawValues) else RawValues.of(values)
        width = 4 * sum(self._sizes)
        fits = values.sizes == width
        invalid = {row: _wrong_size(values[row], width) for row in np.flatnonzero(~fits).tolist()}
        rows = np.flatnonzero(fits)
        numbers = values.matrix(rows, width).view("<f4")
        wrong, lacking = self._wrong(numbers), self._lacking(numbers)
        refused = wrong.any(axis=1) | lacking.any(axis=1)
        if refused.any():
            for place in np.flatnonzero(refused).tolist():
                invalid[int(rows[place])] = self._refusal(numbers[place], wrong[place], lacking[place])
            rows, numbers = rows[~refused], numbers[~refused]
        frame = self._frame(numbers)
        places = rows.tolist()
        documents = RowDocuments(frame, places, len(values))
        return Decoded(frame=frame, rows=places, invalid=tuple(sorted(invalid.items())), documents=documents)

    def _wrong(self, numbers: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Where a number stands for nothing: bool (n_rows, n_numbers)."""
        wrong: NDArray[np.bool_] = np.isinf(numbers)
        for cells in self._arrays:
            absent = np.isnan(numbers[:, cells])
            wrong[:, cells] |= absent & ~absent.all(axis=1, keepdims=True)
        coded = numbers[:, self._coded]
        stands_for_one = (coded >= 0) & (coded < self._n_values) & (coded == np.floor(coded))
        wrong[:, self._coded] = ~stands_for_one & ~np.isnan(coded)
        return wrong

    def _lacking(self, numbers: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Where a value is missing that may not be: bool (n_rows, n_required)."""
        lacking: NDArray[np.bool_] = np.isnan(numbers[:, self._required])
        return lacking

    def _refusal(
        self, numbers: NDArray[np.float32], wrong: NDArray[np.bool_], lacking: NDArray[np.bool_]
    ) -> InvalidRecord:
        """The reason for one record; as for JSON, a wrong value counts before a missing one."""
        if not wrong.any():
            name = self._feature_at(self._required[int(lacking.argmax())]).name
            return InvalidRecord("missing_field", f"{name} is NaN and the schema says missing = 'reject'")
        column = int(wrong.argmax())
        feature = self._feature_at(column)
        where, expected = feature.name, "a finite number or NaN"
        if feature.shape is not None:
            cell = np.unravel_index(column - self._starts[self.schema.features.index(feature)], feature.shape)
            where, expected = cell_name(feature.name, [int(axis) for axis in cell]), "finite numbers or nothing but NaN"
        elif feature.kind == "boolean":
            expected = "0, 1 or NaN"
        elif feature.kind == "categorical":
            expected = f"one of the codes 0 to {len(self.schema.encoding.codes[feature.name]) - 1} or NaN"
        return InvalidRecord("wrong_type", f"Expected {expected}, got {numbers[column]:g} - at `{where}`")

    def _feature_at(self, column: int) -> Feature:
        return self.schema.features[int(np.searchsorted(self._starts, column, side="right")) - 1]

    def _frame(self, numbers: NDArray[np.float32]) -> pl.DataFrame:
        """One column a feature."""
        columns = numbers.T.astype(np.float64, order="C")
        series = [
            _array_series(feature, columns[start : start + feature.n_cells])
            if feature.kind == "array"
            else self._series(feature, columns[start])
            for start, feature in self._placed
        ]
        return pl.DataFrame(series)

    def _series(self, feature: Feature, column: NDArray[np.float64]) -> pl.Series:
        values = pl.Series(feature.name, column)
        if np.isnan(column).any():
            values = values.fill_nan(None)
        if feature.kind == "numeric":
            return values
        if feature.kind == "boolean":
            return values.cast(pl.Boolean)
        return self._tables[feature.name].gather(values.cast(pl.UInt32))

    @cached_property
    def _tables(self) -> dict[str, pl.Series]:
        codes = self.schema.encoding.codes
        return {name: pl.Series(name, codes[name], dtype=pl.String) for name in self.schema.of_kind("categorical")}

    @cached_property
    def _coded(self) -> list[int]:
        """Where the categories and booleans stand."""
        return [start for start, feature in self._placed if feature.kind in ("categorical", "boolean")]

    @cached_property
    def _n_values(self) -> NDArray[np.float32]:
        """Of the same features, how many values each can have."""
        features = [self._feature_at(place) for place in self._coded]
        counts = [2 if feature.kind == "boolean" else len(self._tables[feature.name]) for feature in features]
        return np.array(counts, dtype=np.float32)

    @cached_property
    def _required(self) -> list[int]:
        """Where those stand that must be there; of an array its first number."""
        return [start for start, feature in self._placed if feature.missing == "reject"]

    @cached_property
    def _arrays(self) -> list[slice]:
        """Where the arrays stand."""
        return [slice(start, start + feature.n_cells) for start, feature in self._placed if feature.kind == "array"]

    @cached_property
    def _placed(self) -> list[tuple[int, Feature]]:
        """The features, each with the place of its first number."""
        return list(zip(self._starts, self.schema.features, strict=True))

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(self._sizes[:-1])]

    @cached_property
    def _sizes(self) -> list[int]:
        """How many numbers each feature takes."""
        return [feature.n_cells for feature in self.schema.features]


class RowDocuments(Sequence[bytes | None]):
    """The decoded records as JSON objects of their features, each made when it is asked for."""

    def __init__(self, frame: pl.DataFrame, rows: Sequence[int], n_rows: int) -> None:
        """Takes decoded rows, their positions in the batch, ascending, and the length of the batch."""
        self._frame = frame
        self._rows = rows
        self._n_rows = n_rows

    def __len__(self) -> int:
        return self._n_rows

    @overload
    def __getitem__(self, row: int) -> bytes | None: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[bytes | None]: ...
    def __getitem__(self, row: int | slice) -> bytes | Sequence[bytes | None] | None:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        if not 0 <= row < self._n_rows:
            raise IndexError(row)
        place = bisect_left(self._rows, row)
        if place == len(self._rows) or self._rows[place] != row:
            return None
        document: dict[str, object] = {}
        for name, value in self._frame.row(place, named=True).items():
            if value is not None:
                *parents, leaf = name.split(".")
                node = document
                for parent in parents:
                    node = node.setdefault(parent, {})  # type: ignore[assignment]
                node[leaf] = value
        return msgspec.json.encode(document)


def _array_series(feature: Feature, cells: NDArray[np.float64]) -> pl.Series:
    """Args: cells: float64 (n_cells, n_rows)."""
    arrays = pl.Series(feature.name, cells.T.reshape(-1)).reshape((-1, feature.n_cells))
    return arrays.set(pl.Series(np.isnan(cells[0])), None)


def _wrong_size(value: bytes | None, width: int) -> InvalidRecord:
    if not value:
        return InvalidRecord("empty", "no value (null)" if value is None else "0 bytes")
    return InvalidRecord("wrong_encoding", f"{len(value)} bytes, expected {width}: a float32 for each feature")
