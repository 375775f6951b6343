"""What training learned of each feature, by kind: how it becomes columns of the feature matrix. It computes none."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from monitor.model.schema import MOST_DIMENSIONS

Positive = Annotated[float, msgspec.Meta(gt=0)]
Length = Annotated[int, msgspec.Meta(gt=0)]


class NumericColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="numeric"):
    """One numeric feature: `z = (f(v) − mean) / sd`, f = signed log1p or the identity, then a soft clip.

    Attributes:
        feature: name in the schema.
        typical: median of the training rows, in the field's own unit; replaces a missing value.
        log: whether f is sign(v)·log(1 + |v|).
        mean: mean of f(v) over the training rows.
        sd: its standard deviation; 1 for a constant column.
    """

    feature: str
    typical: float
    log: bool
    mean: float
    sd: Positive


class CategoricalColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="categorical"):
    """One categorical feature: one-hot over `values` and a last level for missing or unknown ones.

    Attributes:
        feature: name in the schema.
        values: the levels seen in training, most frequent first.
    """

    feature: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.values)) < len(self.values):
            raise ValueError(f"a level of {self.feature!r} is listed twice")


class BooleanColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="boolean"):
    """One boolean feature: 0 or 1.

    Attributes:
        feature: name in the schema.
        typical: the more frequent value of the training rows; replaces a missing one.
    """

    feature: str
    typical: bool


class ArrayColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="array"):
    """One array: `z = (v − centre) / scale` in each cell, then a soft clip; the cells stand row by row.

    Attributes:
        feature: name in the schema.
        shape: its lengths.
        typical: of each cell the median of the training rows, in the field's own unit; replaces a missing array.
        centre: in the middle between the least and the greatest number of the training rows, which become −1 and 1.
        scale: half of what is between the two; 1 when they are equal.
    """

    feature: str
    shape: Annotated[tuple[Length, ...], msgspec.Meta(min_length=1, max_length=MOST_DIMENSIONS)]
    typical: tuple[float, ...]
    centre: float
    scale: Positive

    def __post_init__(self) -> None:
        if len(self.typical) != math.prod(self.shape):
            raise ValueError(f"{self.feature!r} has {len(self.typical)} typical values for shape {self.shape}")


Column = NumericColumn | CategoricalColumn | BooleanColumn | ArrayColumn
# A field's value as a record holds it; None is missing.
Value = float | str | bool | None


def kind_of(column: Column) -> str:
    """Of the feature, as in the schema."""
    return str(column.__struct_config__.tag)


def shape_of(column: Column) -> tuple[int, ...] | None:
    """Of an array; None for the other kinds."""
    return column.shape if isinstance(column, ArrayColumn) else None


def width_of(column: Column) -> int:
    """How many columns of X the feature takes."""
    if isinstance(column, CategoricalColumn):
        return len(column.values) + 1
    return math.prod(shape_of(column) or ())


def centre_and_scale(column: Column) -> tuple[float, float]:
    """Which (transformed) value becomes 0 in X, and what is added for each 1; NaN where the feature holds no numbers."""
    if isinstance(column, NumericColumn):
        return column.mean, column.sd
    return (column.centre, column.scale) if isinstance(column, ArrayColumn) else (math.nan, math.nan)
