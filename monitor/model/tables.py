"""Reads data files: CSV, Parquet and JSON lines, as a sample without a schema or as the features of one.

The same number is the same float64 in all three. A file is read whole or not at all: what does not fit is an error that
names file, column, row and fix, never a null.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from monitor.errors import ConfigError
from monitor.model.columns import Misfit, from_text, from_typed, guess_type
from monitor.model.csv_files import read_header, read_text
from monitor.model.json_records import find_fields, read_json_features, read_json_sample
from monitor.model.schema import Feature, Schema

CSV_SUFFIXES = (".csv", ".csv.gz")
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")
PARQUET_SUFFIXES = (".parquet",)


def read_sample(path: str | Path, max_rows: int) -> pl.DataFrame:
    """Reads the first rows of a file, each column with the type its values have; nested fields get dotted names.

    Args:
        path: its suffix tells the format.
        max_rows: how many rows from the top.

    Returns:
        At least one row. Arrays are Array or List columns, values of different types an Object column; NaN is null.

    Raises:
        ConfigError: the file is missing, broken, empty, or of an unknown format.
    """
    path = _checked(path)
    if _is(path, CSV_SUFFIXES):
        frame = read_text(path, max_rows=max_rows)
        frame = frame.with_columns([guess_type(column) for column in frame])
    elif _is(path, JSON_SUFFIXES):
        frame = read_json_sample(path, max_rows)
    else:
        frame = _flatten(path, _read_parquet(path, max_rows=max_rows))
    return _at_least_one_row(path, frame).fill_nan(None)


def find_columns(path: str | Path, names: Sequence[str]) -> list[str]:
    """Which of these columns a file has; of JSON lines, which fields occur in any record.

    Raises:
        ConfigError: the file is missing, broken, empty, or of an unknown format.
    """
    path = _checked(path)
    if _is(path, JSON_SUFFIXES):
        return find_fields(path, names)
    there = read_sample(path, 1).columns
    return [name for name in names if name in there]


def read_features(path: str | Path, schema: Schema, extra_columns: Sequence[str] = ()) -> pl.DataFrame:
    """Reads the features of every row, and other columns as they are.

    Args:
        path: its suffix tells the format.
        schema: which columns are features, of what kind, and which of them must not be missing.
        extra_columns: further columns, such as a label or the time. One that is a feature too appears once, as feature.

    Returns:
        The features in schema order (Float64, String, Boolean, Array of Float64; null is missing), then the extra ones. At
        least one row.

    Raises:
        ConfigError: the file is missing, broken, empty or of unknown format, lacks a column, or a column does not fit.
    """
    path = _checked(path)
    extras = tuple(name for name in dict.fromkeys(extra_columns) if name not in schema.feature_names)
    if _is(path, CSV_SUFFIXES):
        frame = _read_csv_features(path, schema, extras)
    elif _is(path, JSON_SUFFIXES):
        frame = read_json_features(path, schema, extras)
    else:
        frame = _read_parquet_features(path, schema, extras)
    return _refuse_missing(path, schema, _at_least_one_row(path, frame))


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise ConfigError(str(path), "no such file; check the path")
    if not path.is_file():
        raise ConfigError(str(path), "is not a file; name one file")
    if not _is(path, (*CSV_SUFFIXES, *JSON_SUFFIXES, *PARQUET_SUFFIXES)):
        known = ", ".join((*CSV_SUFFIXES, *PARQUET_SUFFIXES, *JSON_SUFFIXES))
        raise ConfigError(str(path), f"unknown format; the name must end in one of {known}")
    return path


def _is(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffixes)


def _at_least_one_row(path: Path, frame: pl.DataFrame) -> pl.DataFrame:
    if frame.height == 0:
        raise ConfigError(str(path), "holds no rows; at least one is needed")
    return frame


def _refuse_missing(path: Path, schema: Schema, frame: pl.DataFrame) -> pl.DataFrame:
    rejecting = [feature.name for feature in schema.features if feature.missing == "reject"]
    missing = {name: frame.get_column(name).is_null() for name in rejecting}
    problems = [
        f"column {name!r} is missing in {nulls.sum()} rows, first in row {(nulls.arg_max() or 0) + 1}, and the schema says "
        "missing = 'reject'; drop those rows or say 'impute'"
        for name, nulls in missing.items()
        if nulls.any()
    ]
    if problems:
        raise ConfigError(str(path), problems)
    return frame


def _read_csv_features(path: Path, schema: Schema, extras: tuple[str, ...]) -> pl.DataFrame:
    names = (*schema.feature_names, *extras)
    _refuse_absent(path, names, read_header(path))
    text = read_text(path, columns=names)
    features = _converted(path, text, schema, from_text)
    return features.with_columns([guess_type(text.get_column(name)) for name in extras])


def _read_parquet_features(path: Path, schema: Schema, extras: tuple[str, ...]) -> pl.DataFrame:
    names = (*schema.feature_names, *extras)
    roots = {root for name in names for root in (name, name.split(".")[0])}
    there = _parquet_columns(path)
    frame = _flatten(path, _read_parquet(path, columns=[name for name in there if name in roots]))
    _refuse_absent(path, names, list(dict.fromkeys((*frame.columns, *there))))
    features = _converted(path, frame, schema, from_typed)
    return features.with_columns([frame.get_column(name) for name in extras])


def _parquet_columns(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:  # given the path, polars would take [ and * in it for patterns
            return list(pl.read_parquet_schema(file))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ConfigError(str(path), f"is not a sound Parquet file: {_first_line(error)}; write it again") from error


def _read_parquet(path: Path, columns: list[str] | None = None, max_rows: int | None = None) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, columns=columns, n_rows=max_rows, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ConfigError(str(path), f"is not a sound Parquet file: {_first_line(error)}; write it again") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _flatten(path: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """Replaces structs by their fields, with dotted names; a dot inside a field's own name is doubled."""
    while any(isinstance(dtype, pl.Struct) for dtype in frame.dtypes):
        columns: list[pl.Series] = []
        for column in frame:
            if isinstance(column.dtype, pl.Struct):
                fields = column.struct.unnest()
                columns.extend(field.alias(f"{column.name}.{field.name.replace('.', '..')}") for field in fields)
            else:
                columns.append(column)
        names = [column.name for column in columns]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ConfigError(
                str(path), f"holds {', '.join(map(repr, sorted(twice)))} twice, flat and nested; drop one"
            )
        frame = pl.DataFrame({column.name: column for column in columns})  # a list would rename a column without name
    return frame


def _refuse_absent(path: Path, names: Sequence[str], there: Sequence[str]) -> None:
    absent = [name for name in names if name not in there]
    if absent:
        raise ConfigError(str(path), [_about_absent(name, there) for name in absent])


def _about_absent(name: str, there: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, there, n=1)
    hint = (
        f"did you mean {close[0]!r}?" if close else f"it has {', '.join(there[:12])}{' …' if len(there) > 12 else ''}"
    )
    return f"no column {name!r}; {hint}"


def _converted(
    path: Path, frame: pl.DataFrame, schema: Schema, convert: Callable[[pl.Series, Feature], pl.Series]
) -> pl.DataFrame:
    columns: list[pl.Series] = []
    problems: list[str] = []
    for feature in schema.features:
        try:
            columns.append(convert(frame.get_column(feature.name), feature))
        except Misfit as misfit:
            problems.append(str(misfit))
    if problems:
        raise ConfigError(str(path), problems)
    return pl.DataFrame(columns)
