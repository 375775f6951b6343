"""Says what one column of a sample is, by its values first and by its name where values cannot decide."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import cast

import polars as pl
from pydantic import TypeAdapter, ValidationError

from monitor.model.array_values import describe_shapes, is_constant, shape_of
from monitor.model.findings import FEW_ROWS, MAX_CATEGORIES, Finding, frequent, name_words, percent, rows, shown
from monitor.model.number_verdict import judge_numbers
from monitor.model.schema import MOST_CELLS, MOST_DIMENSIONS, FieldPath, Kind
from monitor.model.text_verdict import judge_text

_LABEL_NAMES = {
    "label",
    "labels",
    "target",
    "class",
    "ground_truth",
    "is_fraud",
    "is_anomaly",
    "is_outlier",
    "is_attack",
}
_LABEL_NAMES_OF_TWO = {"y", "fraud", "anomaly", "anomalous", "outlier", "attack", "fraudulent", "label", "malicious"}
_TYPE_NOUNS = {str: "text", int: "whole numbers", float: "numbers", bool: "booleans", list: "arrays"}
_PATH: TypeAdapter[str] = TypeAdapter(FieldPath)


def judge(column: pl.Series) -> Finding:
    """Says what a column is.

    Stamps without a time zone are a `timestamp` that is `naive`; whether a zone is known for them is for the caller.
    """
    bad_name = _judge_name(column.name)
    values = column.alias("") if bad_name else column  # polars would take a name such as ^a$ for a pattern
    values = values.fill_nan(None) if values.dtype.is_float() else values
    nulls = values.null_count()
    finding = bad_name or _judge_values(values.drop_nulls() if nulls else values, values.len())
    return replace(finding, column=column.name, null_share=nulls / values.len() if values.len() else 0.0)


def _judge_name(name: str) -> Finding | None:
    try:
        _PATH.validate_python(name)
    except ValidationError:
        if not name.strip():
            reason = "it has no name (an index that was written along?)"
        elif name != name.strip():
            reason = "its name begins or ends with white space; rename it"
        else:
            reason = "a part of its name between dots is empty, begins or ends with a blank, begins with * or ^, "
            reason += "or holds a quote or backslash; rename it"
            reason += " (a dot inside a JSON key is shown doubled)" if ".." in name else ""
        return Finding(name, "bad_name", reason)
    return None


def _judge_values(values: pl.Series, n_rows: int) -> Finding:
    if values.is_empty():
        return Finding("", "empty", f"no value in {rows(n_rows)}")
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype in (pl.String, pl.Boolean) or values.dtype.is_numeric():
        return _judge_plain_values(values, n_rows)
    return _judge_other_types(values, n_rows)


def _judge_plain_values(values: pl.Series, n_rows: int) -> Finding:
    numeric, boolean = values.dtype.is_numeric(), values.dtype == pl.Boolean
    kind: Kind = "numeric" if numeric else "boolean" if boolean else "categorical"
    distinct = values.n_unique()
    if (finding := _judge_label(values, distinct, kind)) is not None:
        return finding
    if distinct == 1 and n_rows >= FEW_ROWS:
        where = (
            f"all {n_rows} rows" if len(values) == n_rows else f"the {len(values)} of {n_rows} rows that have a value"
        )
        return Finding("", "constant", f"always {shown(values[0])} in {where}", kind=kind)
    if boolean:
        return Finding("", "boolean", f"true in {percent(float(values.mean() or 0.0))} of the rows", kind=kind)  # type: ignore[arg-type]
    return judge_numbers(values, distinct) if numeric else judge_text(values, distinct)


def _judge_other_types(values: pl.Series, n_rows: int) -> Finding:
    dtype = values.dtype
    if dtype == pl.Object:
        return _judge_mixture(values, n_rows)
    if isinstance(dtype, pl.List | pl.Array):
        return _judge_arrays(values, n_rows)
    if dtype in (pl.Datetime, pl.Date):
        return _judge_datetimes(values)
    return Finding("", "unsupported", f"type {dtype} has no counterpart in JSON; write it as numbers or text")


def _judge_label(values: pl.Series, distinct: int, kind: Kind) -> Finding | None:
    """A column that tells which rows are anomalous must not be learned from; the model would see nothing else."""
    words = name_words(values.name)
    if "_".join(words) in _LABEL_NAMES:
        looks_so = distinct <= MAX_CATEGORIES
    else:
        looks_so = distinct == 2 and not _LABEL_NAMES_OF_TWO.isdisjoint(words)
    if not looks_so:
        return None
    reason = f"looks like a label ({frequent(values)}); a model that sees it learns nothing else; give it as --label"
    return Finding("", "label", reason, kind=kind)


def _judge_mixture(values: pl.Series, n_rows: int) -> Finding:
    """Values of different types: categories if all of them may be one, otherwise nothing."""
    objects: list[object] = values.to_list()
    if all(isinstance(value, list) for value in objects):
        return _judge_unlike_arrays(objects)
    counts = Counter(_TYPE_NOUNS.get(type(value), "other things") for value in objects)
    mixture = " and ".join(f"{noun} ({percent(count / len(objects))})" for noun, count in sorted(counts.items()))
    if not counts.keys() <= {"text", "whole numbers", "booleans"}:
        return Finding("", "unsupported", f"different types in one field: {mixture}; publish one type")
    as_text = [str(value).lower() if isinstance(value, bool) else str(value) for value in objects]
    finding = _judge_values(pl.Series(values.name, as_text, dtype=pl.String), n_rows)
    return replace(finding, reason=f"{finding.reason}; {mixture}, compared as text")


def _judge_unlike_arrays(arrays: list[object]) -> Finding:
    reason = f"arrays that differ in shape, or hold something else than finite numbers: {describe_shapes(arrays)}; repair such "
    reason += "rows, or publish what matters as fields"
    return Finding("", "unsupported", reason)


def _judge_arrays(values: pl.Series, n_rows: int) -> Finding:
    """Numbers of one shape are a feature."""
    shape = shape_of(values)
    if shape is None:
        return _judge_unlike_arrays(values.to_list())
    size = " x ".join(map(str, shape))
    if len(shape) > MOST_DIMENSIONS or math.prod(shape) > MOST_CELLS:
        reason = f"arrays of {size} numbers; at most {MOST_DIMENSIONS} dimensions and {MOST_CELLS} numbers are taken"
        return Finding("", "unsupported", reason)
    if n_rows >= FEW_ROWS and is_constant(values):
        return Finding("", "constant", f"always the same array of {size} numbers", kind="array", shape=shape)
    return Finding("", "array", f"arrays of {size} numbers", kind="array", shape=shape)


def _judge_datetimes(values: pl.Series) -> Finding:
    first, last = cast("list[str]", values.sort().gather([0, -1]).cast(pl.String).to_list())
    naive = not (isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone)
    return Finding("", "timestamp", f"dates from {first} to {last}", stamp="iso8601", naive=naive)
