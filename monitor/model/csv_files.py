"""Reads CSV files as text, column by column, and says in which line one is broken. It gives no column a type."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO, cast

import polars as pl

from monitor.errors import ConfigError

_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_HEADER_FIX = "the first line must hold the column names, separated by commas"


def read_header(path: Path) -> list[str]:
    """The column names.

    Raises:
        ConfigError: there is no header, a name stands there twice, or the separator is not a comma.
    """
    with _opened(path) as file:
        header = next((fields for fields in csv.reader(file) if fields), None)
    if header is None:
        raise ConfigError(str(path), f"is empty; {_HEADER_FIX}")
    if len(header) == 1 and (found := next((mark for mark in _OTHER_SEPARATORS if mark in header[0]), None)):
        raise ConfigError(str(path), f"its columns are separated by {_OTHER_SEPARATORS[found]}; write it with commas")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ConfigError(str(path), f"line 1 names {', '.join(map(repr, twice[:5]))} more than once; {_HEADER_FIX}")
    return header


def read_text(path: Path, columns: Collection[str] | None = None, max_rows: int | None = None) -> pl.DataFrame:
    """Reads a file with a header; blank lines do not count.

    Args:
        path: a CSV file, plain or gzip.
        columns: names to read; those that the file lacks are left out; all of them when None.
        max_rows: how many rows from the top; all of them when None.

    Returns:
        String columns; an empty field is null.

    Raises:
        ConfigError: the file is not sound CSV; with the line where it is known.
    """
    header = read_header(path)
    wanted = [place for place, name in enumerate(header) if columns is None or name in columns]
    last = len(header) - 1
    try:
        # A line that is too short reads as null in the last column, so that one is always looked at.
        frame = pl.read_csv(path, columns=sorted({*wanted, last}), n_rows=max_rows, infer_schema=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        _field_counts(path, len(header))  # says in which line, if Python's reader finds fault too
        raise ConfigError(str(path), f"is not sound CSV: {str(error).splitlines()[0]}") from error
    frame.columns = [header[place] for place in sorted({*wanted, last})]
    if frame.get_column(header[last]).null_count():
        frame = _without_blank_lines(path, frame, len(header))
    # Column by column, since polars would take a name such as * or ^a$ for a pattern.
    return pl.DataFrame({header[place]: frame.get_column(header[place]) for place in wanted})


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """The file as text; what may go wrong while it is read becomes a ConfigError."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield cast(TextIO, file)
    except UnicodeDecodeError as error:
        raise ConfigError(
            str(path), f"line {_line_of_bad_byte(path)} is not UTF-8; convert the file, for example with iconv"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(str(path), f"cannot be read: {error}") from error
    except csv.Error as error:
        raise ConfigError(str(path), f"is not sound CSV: {error}") from error


def _line_of_bad_byte(path: Path) -> int:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 0


def _field_counts(path: Path, width: int, max_rows: int | None = None) -> list[int]:
    """Number of fields of each row below the header (0: a blank line).

    Raises:
        ConfigError: a row has neither none nor `width` fields.
    """
    counts: list[int] = []
    with _opened(path) as file:
        reader = csv.reader(file)
        next(fields for fields in reader if fields)
        for fields in islice(reader, max_rows):
            if len(fields) not in (0, width):
                found = f"line {reader.line_num} has {len(fields)} fields, the header has {width}"
                raise ConfigError(str(path), f"{found}; {_fix_width(len(fields), width)}")
            counts.append(len(fields))
    return counts


def _fix_width(fields: int, width: int) -> str:
    if fields < width:
        return "fill it up with commas, or delete it (a file that was cut off ends like this)"
    return "put a value that holds a comma in double quotes"


def _without_blank_lines(path: Path, frame: pl.DataFrame, width: int) -> pl.DataFrame:
    counts = _field_counts(path, width, frame.height)
    if len(counts) != frame.height:
        raise ConfigError(
            str(path),
            f"is not sound CSV: {frame.height} rows by one reader, {len(counts)} by another; look for stray quotes",
        )
    return frame.filter(pl.Series(counts) > 0)
