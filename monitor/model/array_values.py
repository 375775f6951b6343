"""The values of array features: what a record may hold, what is wrong with what it does hold, and columns of them.

A record gives the numbers of an array nested as the shape says (what numpy's `tolist` writes) or flat, row by row; all arrays of
a record in one way. In a frame such a column is flat: `Array(Float64, n_cells)`; null is a missing array. An array is there as a
whole or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Annotated, Any

import msgspec
import numpy as np
import polars as pl

from monitor.model.schema import MOST_DIMENSIONS, Feature

_TYPE_NAMES = {type(None): "null", bool: "bool", str: "str", list: "array", dict: "object", int: "int", float: "float"}


def nested_dtype(depth: int) -> pl.DataType:
    """The type of a column as it is read, lists in `depth` levels."""
    dtype: pl.DataType = pl.Float64()
    for _ in range(depth):
        dtype = pl.List(dtype)
    return dtype


def cell_name(feature: str, place: Sequence[int]) -> str:
    """`image[14,13,0]`."""
    return f"{feature}[{','.join(map(str, place))}]"


def flatten(column: pl.Series, feature: Feature) -> pl.Series | None:
    """Makes one array a row of lists of numbers.

    Args:
        column: Lists or Arrays of numbers, flat or nested; null is a missing array.
        feature: says how long they must be.

    Returns:
        `Array(Float64, n_cells)`; None when a list has another length, or a number is missing or no number.
    """
    present = column.drop_nulls() if column.null_count() else column
    if present.is_empty():
        return pl.Series(column.name, [None] * len(column), dtype=pl.Array(pl.Float64(), feature.n_cells))
    if _measure(present) not in (feature.shape, (feature.n_cells,)):
        return None
    numbers = _numbers(present)
    if not numbers.dtype.is_numeric():
        return None
    return _spread(numbers.cast(pl.Float64).reshape((-1, feature.n_cells)), column)


def _spread(arrays: pl.Series, column: pl.Series) -> pl.Series:
    """The arrays of those rows of a column that hold one, with null for the others."""
    if column.null_count():
        arrays = arrays.gather((column.is_not_null().cum_sum() - 1).set(column.is_null(), None))
    return arrays.alias(column.name)


def _numbers(column: pl.Series) -> pl.Series:
    """All numbers one after the other."""
    while isinstance(column.dtype, pl.List | pl.Array):
        column = column.explode()
    return column


def _measure(column: pl.Series) -> tuple[int, ...] | None:
    """The shape of all lists of a column that has no nulls; None when they differ or a part is null."""
    shape = []
    while isinstance(column.dtype, pl.List | pl.Array):
        sizes = column.list.len() if isinstance(column.dtype, pl.List) else column.arr.len()
        if column.null_count() or not sizes.min() or sizes.min() != sizes.max():
            return None
        shape.append(int(sizes[0]))
        column = column.explode()
    return None if column.null_count() else tuple(shape)


def describe_misfit(arrays: Sequence[tuple[Feature, object]]) -> str | None:
    """What is wrong with the arrays of one record, with the place of the first offence; None when nothing is.

    Args:
        arrays: each feature with its value as Python's own objects; None is a missing array.
    """
    is_nested = any(feature.n_dimensions > 1 and _begins_nested(value) for feature, value in arrays)
    for feature, value in arrays:
        lengths = (feature.shape or ()) if is_nested else (feature.n_cells,)
        if value is not None and not _has_lengths(value, lengths):
            return _misfit(feature.name, value, lengths, ())
    return None


def _has_lengths(value: object, lengths: tuple[int, ...]) -> bool:
    """Whether a value is lists of numbers in these lengths; some fifty times as fast as to look for the place."""
    try:
        msgspec.convert(value, _nested_lists(lengths))
    except msgspec.ValidationError:
        return False
    return True


@cache
def _nested_lists(lengths: tuple[int, ...]) -> Any:
    """The type of lists of numbers in these lengths."""
    kind: Any = float
    for length in reversed(lengths):
        kind = Annotated[list[kind], msgspec.Meta(min_length=length, max_length=length)]
    return kind


def _begins_nested(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def _misfit(feature: str, value: object, lengths: Sequence[int], place: tuple[int, ...]) -> str | None:
    where = f"at `{cell_name(feature, place) if place else feature}`"
    if not lengths:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return None if is_number else f"Expected `float`, got `{_type_name(value)}` - {where}"
    if not isinstance(value, list):
        return f"Expected `array`, got `{_type_name(value)}` - {where}"
    if len(value) != lengths[0]:
        return f"Expected {lengths[0]} {'numbers' if len(lengths) == 1 else 'arrays'}, got {len(value)} - {where}"
    parts = (_misfit(feature, part, lengths[1:], (*place, number)) for number, part in enumerate(value))
    return next((problem for problem in parts if problem is not None), None)


def _type_name(value: object) -> str:
    return _TYPE_NAMES.get(type(value), type(value).__name__)


def shape_of(column: pl.Series) -> tuple[int, ...] | None:
    """The shape that all arrays of a column have; None when they differ or hold something else than finite numbers.

    Args:
        column: Lists or Arrays of anything, without nulls, at least one.
    """
    shape = _measure(column)
    numbers = _numbers(column)
    is_sound = shape is not None and numbers.dtype.is_numeric() and numbers.cast(pl.Float64).is_finite().all()
    return shape if is_sound else None


def is_deep(arrays: Sequence[object], most: int) -> bool:
    """Whether lists lie in each other in more than `most` levels."""
    level = list(arrays)
    for _ in range(most):
        level = [part for array in level if isinstance(array, list) for part in array]
    return any(isinstance(array, list) for array in level)


def describe_shapes(arrays: Sequence[object]) -> str:
    """How often each shape occurs, most frequent first: "3 (39 rows), 2 (1 row)"; of ragged arrays that of their first parts."""
    counts = Counter(_describe_shape(array) for array in arrays)
    return ", ".join(f"{shape} ({n} {'row' if n == 1 else 'rows'})" for shape, n in counts.most_common(3))


def _describe_shape(array: object) -> str:
    lengths = list(islice(_measure_first(array), MOST_DIMENSIONS + 1))
    return " x ".join(map(str, lengths)) if len(lengths) <= MOST_DIMENSIONS else f"over {MOST_DIMENSIONS} dimensions"


def _measure_first(array: object) -> Iterator[int]:
    while isinstance(array, list):
        yield len(array)
        array = array[0] if array else None


def is_constant(column: pl.Series) -> bool:
    """Whether all arrays of a column that has a shape are equal."""
    arrays = _numbers(column).to_numpy().reshape(len(column), -1)
    return bool((arrays == arrays[0]).all())


def from_objects(name: str, values: Sequence[object]) -> pl.Series | None:
    """A column of arrays of numbers that all have the same shape: Array(Float64, shape); None when these are others.

    Args:
        name: of the column.
        values: lists, nested in any way, and None.
    """
    lists = [value for value in values if value is not None]
    if not lists or set(map(type, lists)) != {list}:
        return None
    try:
        cells = np.array(lists, dtype=object)  # so that a long text among them does not make all of them as long
        if not cells.size or not set(map(type, cells.reshape(-1))) <= {int, float}:
            return None
        arrays = pl.Series(cells.astype(np.float64))
    except (ValueError, OverflowError):  # of different lengths; beyond float64
        return None
    return _spread(arrays, pl.Series(name, [None if value is None else True for value in values], dtype=pl.Boolean))
