"""One column of a file, turned into the type that its kind of feature has; what does not fit is named, never guessed.

It knows columns, not files: the readers give it text (CSV) or typed values (Parquet).
"""

from __future__ import annotations

import polars as pl

from monitor.model.array_values import flatten
from monitor.model.schema import Feature, Kind

_DTYPES: dict[Kind, pl.DataType] = {"numeric": pl.Float64(), "categorical": pl.String(), "boolean": pl.Boolean()}
# How text files write that a number or truth value is missing. A category may really be called "NA" (Namibia).
MISSING_TEXT = ("", "NA", "N/A", "na", "n/a", "NaN", "nan", "NAN", "null", "NULL", "Null", "None", "none")
FIXES: dict[Kind, str] = {
    "numeric": "write a number or leave it empty, or make it kind = 'categorical' in features.toml",
    "categorical": "write it as text, a whole number or true/false, or make it kind = 'numeric' in features.toml",
    "boolean": "use true, false or nothing, or make it kind = 'categorical' (0 and 1: 'numeric') in features.toml",
    "array": "write JSON lines or Parquet, with lists of numbers nested as the shape in features.toml says, or flat",
}
_NOUNS: dict[Kind, str] = {
    "numeric": "a number",
    "categorical": "a category",
    "boolean": "true or false",
    "array": "an array of finite numbers of that shape",
}
_SHOWN_VALUE = 40


class Misfit(ValueError):  # noqa: N818 - it describes a column; the reader makes a ConfigError of all of them
    """A column does not hold what its kind of feature needs; the message is a whole sentence with the fix."""

    def __init__(
        self, feature: Feature, row: int, value: object, problem: str | None = None, *, n_others: int = 0
    ) -> None:
        what = problem or f"is not {_NOUNS[feature.kind]}; {FIXES[feature.kind]}"
        others = f" ({n_others} more {'row' if n_others == 1 else 'rows'} like it)" if n_others else ""
        super().__init__(f"column {feature.name!r}, row {row + 1}{others}: {shorten(value)} {what}")


def dtype_of(feature: Feature) -> pl.DataType:
    """The type of a feature's column: Float64, String, Boolean, or Array of Float64."""
    return pl.Array(pl.Float64(), feature.n_cells) if feature.kind == "array" else _DTYPES[feature.kind]


def shorten(value: object) -> str:
    """A value as it may stand in a message: quoted, on one line, at most 40 characters."""
    shown = repr(value)
    return shown if len(shown) <= _SHOWN_VALUE else shown[: _SHOWN_VALUE - 1] + "…"


def from_text(column: pl.Series, feature: Feature) -> pl.Series:
    """Reads a column of a text file.

    Args:
        column: String; null is an empty field.
        feature: its kind decides; categories stay as written, except that True and TRUE become true as in JSON.

    Returns:
        Float64, String or Boolean; null is missing.

    Raises:
        Misfit: a text is not a finite number, or not true or false, or the feature is an array.
    """
    if feature.kind == "array":
        raise Misfit(feature, 0, column.first(ignore_nulls=True))
    if feature.kind == "categorical":
        return column.replace({"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"})
    text = _without_missing_text(column)
    values = _as_number(text) if feature.kind == "numeric" else _as_boolean(text)
    _refuse_first(values.is_null() & text.is_not_null(), column, feature)
    return _finite(values, feature) if feature.kind == "numeric" else values


def from_typed(column: pl.Series, feature: Feature) -> pl.Series:
    """Reads a column of a typed file.

    Returns:
        Float64, String, Boolean or Array of Float64; null is missing.

    Raises:
        Misfit: the column's type does not suit the kind, a number is infinite, or an array has another shape.
    """
    dtype = column.dtype
    if dtype == pl.Null:
        return column.cast(dtype_of(feature))
    if feature.kind == "array":
        return _from_lists(column, feature)
    if feature.kind == "numeric" and dtype.is_numeric():
        return _finite(column.cast(pl.Float64), feature)
    if feature.kind == "boolean" and dtype == pl.Boolean:
        return column
    if feature.kind == "categorical" and (
        dtype.is_integer() or dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum)
    ):
        return column.cast(pl.String)
    _refuse_first(column.is_not_null(), column, feature)
    return column.clear(column.len()).cast(dtype_of(feature), strict=False)


def _from_lists(column: pl.Series, feature: Feature) -> pl.Series:
    """Reads a column of arrays."""
    arrays = _finite_arrays(column, feature)
    if arrays is None:
        row = next(row for row in range(len(column)) if _finite_arrays(column[row : row + 1], feature) is None)
        raise Misfit(feature, row, column.to_list()[row])
    return arrays


def _finite_arrays(column: pl.Series, feature: Feature) -> pl.Series | None:
    arrays = flatten(column, feature)
    return arrays if arrays is not None and arrays.explode().is_finite().all() else None


def guess_type(column: pl.Series) -> pl.Series:
    """Types a column of a text file by all of its values: Boolean, Int64, Float64, or String when nothing else fits.

    Numbers with leading zeros (postcodes) and whole numbers beyond 64 bits (serial numbers) stay text.
    """
    return _guess_type(column.alias("")).alias(column.name)  # polars would take a name such as ^a$ for a pattern


def _guess_type(column: pl.Series) -> pl.Series:
    text = _without_missing_text(column)
    present = text.drop_nulls()
    if present.is_empty():
        return text
    if (boolean := _as_boolean(present)).null_count() == 0 and boolean.len():
        return _as_boolean(text)
    if present.str.contains(r"^[+-]?0[0-9]").any():
        return column
    if present.str.contains(r"^-?[0-9]+$").all():
        whole = text.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == text.null_count() else column
    number = _as_number(text)
    return number if number.null_count() == text.null_count() else column


def _without_missing_text(column: pl.Series) -> pl.Series:
    text = column.str.strip_chars()
    return text.set(text.is_in(list(MISSING_TEXT)), None)


def _as_number(text: pl.Series) -> pl.Series:
    return text.cast(pl.Float64, strict=False)


def _as_boolean(text: pl.Series) -> pl.Series:
    lower = text.str.to_lowercase()
    return lower.replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)


def _finite(column: pl.Series, feature: Feature) -> pl.Series:
    """NaN becomes missing; an infinite number is refused, for JSON cannot carry one."""
    column = column.fill_nan(None)
    _refuse_first(
        column.is_infinite(),
        column,
        feature,
        "is infinite (or beyond float64); leave it empty, or write a finite number",
    )
    return column


def _refuse_first(bad: pl.Series, column: pl.Series, feature: Feature, problem: str | None = None) -> None:
    if bad.any():
        row = bad.arg_max() or 0
        raise Misfit(feature, row, column[row : row + 1].to_list()[0], problem, n_others=int(bad.sum()) - 1)
