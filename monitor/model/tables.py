"""Reads data files: CSV, Parquet and JSON lines, as a sample without a schema or as the features of one.

The same number is the same float64 in all three. A file is read whole or not at all: what does not fit is an error that
names file, column, row and fix, never a null.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from monitor.errors import ConfigError
from monitor.model.columns import Misfit, from_text, from_typed, guess_type
from monitor.model.csv_files import read_header, read_text
from monitor.model.json_records import read_json_features, read_json_sample
from monitor.model.schema import Schema

CSV_SUFFIXES = (".csv", ".csv.gz")
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")
PARQUET_SUFFIXES = (".parquet",)


def read_sample(path: str | Path, max_rows: int) -> pl.DataFrame:
    """Reads the first rows of a file, each column with the type its values have; nested fields get dotted names.

    Args:
        path: its suffix tells the format.
        max_rows: how many rows from the top.

    Returns:
        At least one row. Arrays are List columns, values of different types an Object column; NaN is null.

    Raises:
        ConfigError: the file is missing, broken, empty, or of an unknown format.
    """
    path = _checked(path)
    if _is(path, CSV_SUFFIXES):
        frame = pl.DataFrame([guess_type(column) for column in read_text(path, max_rows=max_rows)])
    elif _is(path, JSON_SUFFIXES):
        frame = read_json_sample(path, max_rows)
    else:
        frame = _flatten(_read_parquet(path, max_rows=max_rows))
    return _at_least_one_row(path, frame).fill_nan(None)


def read_features(path: str | Path, schema: Schema, extra_columns: Sequence[str] = ()) -> pl.DataFrame:
    """Reads the features of every row, and other columns as they are.

    Args:
        path: its suffix tells the format.
        schema: which columns are features and of what kind; its `missing` policy is not applied here.
        extra_columns: further columns, such as a label or the time. One that is a feature too appears once, as feature.

    Returns:
        The features in schema order (Float64, String, Boolean; null is missing), then the extra columns. At least one row.

    Raises:
        ConfigError: the file is missing, broken, empty or of an unknown format, lacks a column, or a column does not fit.
    """
    path = _checked(path)
    extras = tuple(name for name in dict.fromkeys(extra_columns) if name not in schema.feature_names)
    if _is(path, CSV_SUFFIXES):
        frame = _read_csv_features(path, schema, extras)
    elif _is(path, JSON_SUFFIXES):
        frame = read_json_features(path, schema, extras)
    else:
        frame = _read_parquet_features(path, schema, extras)
    return _at_least_one_row(path, frame)


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


def _read_csv_features(path: Path, schema: Schema, extras: tuple[str, ...]) -> pl.DataFrame:
    names = (*schema.feature_names, *extras)
    _refuse_absent(path, names, read_header(path))
    text = read_text(path, columns=names)
    features = _converted(path, text, schema, from_text)
    return features.with_columns([guess_type(text.get_column(name)) for name in extras])


def _read_parquet_features(path: Path, schema: Schema, extras: tuple[str, ...]) -> pl.DataFrame:
    names = (*schema.feature_names, *extras)
    there = _parquet_columns(path)
    roots = {name if name in there else name.split(".")[0] for name in names}
    frame = _flatten(_read_parquet(path, columns=[name for name in there if name in roots]))
    _refuse_absent(path, names, [name for name in frame.columns if name in names] or there)
    features = _converted(path, frame, schema, from_typed)
    return features.with_columns([frame.get_column(name) for name in extras])
