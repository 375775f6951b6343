"""JSON records outside of the stream: a sample of them as a table, and files of one object a line.

A file's features are read by the daemon's own decoder, so that a record means the same in both. A sample is read
without a schema: nested objects become columns with dotted names, arrays stay as they are.
"""

from __future__ import annotations

import codecs
import gzip
import re
import sys
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, cast

import msgspec
import polars as pl

from monitor.errors import ConfigError
from monitor.model.array_values import describe_misfit, from_objects, is_deep
from monitor.model.columns import FIXES, shorten
from monitor.model.decode import Decoder
from monitor.model.schema import Schema

_CHUNK_LINES = 16_384
_NOT_READABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NO_FINITE_NUMBER = re.compile(rb"[:,\[]\s*-?(?:NaN|Infinity)\b", re.IGNORECASE)
# polars takes seconds for lists in hundreds of levels.
_DEEPEST = 8
_INT64 = range(-(2**63), 2**63)

Record = dict[str, object]
Line = tuple[int, bytes]


def frame_from_records(records: Iterable[bytes | None]) -> pl.DataFrame:
    """Makes a table of raw record values; those that are not one JSON object are skipped.

    Args:
        records: values as they came from Kafka.

    Returns:
        A row for each JSON object, in order, so that `len(records) - frame.height` were skipped. A key that holds a dot
        appears with the dot doubled: a dotted path always means nesting, so it cannot be a feature.
    """
    return _as_frame([parsed for value in records if value is not None and isinstance(parsed := _parse(value), dict)])


def read_json_sample(path: Path, max_rows: int) -> pl.DataFrame:
    """Reads the first records of a file of JSON lines.

    Raises:
        ConfigError: a line is not one JSON object.
    """
    with _open_lines(path) as lines:
        return _as_frame([_parse_line(path, line) for line in islice(lines, max_rows)])


def read_json_features(path: Path, schema: Schema, extra_columns: Sequence[str]) -> pl.DataFrame:
    """Reads the features, and other fields as they are, of a file of JSON lines.

    Raises:
        ConfigError: a line is not one JSON object, a value does not fit its kind, or a field occurs in no record.
    """
    # Whether a missing value is to be refused is for the user of the rows to say.
    lenient = schema.model_copy(
        update={"features": tuple(f.model_copy(update={"missing": "impute"}) for f in schema.features)}
    )
    decoder = Decoder(lenient, max_record_bytes=sys.maxsize)
    frames: list[pl.DataFrame] = []
    extras: dict[str, list[object]] = {name: [] for name in extra_columns}
    with _open_lines(path) as lines:
        while chunk := list(islice(lines, _CHUNK_LINES)):
            decoded = decoder.decode([line for _, line in chunk])
            if decoded.invalid:
                row, refusal = decoded.invalid[0]
                raise ConfigError(
                    str(path), _explain(path, chunk[row], schema) or f"line {chunk[row][0]}: {refusal.detail}"
                )
            frames.append(decoded.frame)
            if extras:
                records = [_parse_line(path, line) for line in chunk]
                for name, values in extras.items():
                    values.extend(_look_up(record, name)[0] for record in records)
    frame = pl.concat(frames) if frames else decoder.decode([]).frame
    frame = frame.with_columns([_as_series(name, values) for name, values in extras.items()])
    _refuse_unknown(path, frame)
    return frame


def find_fields(path: Path, names: Collection[str]) -> list[str]:
    """Which of these fields occur in a record of a file of JSON lines; it is read until all have been seen.

    Raises:
        ConfigError: a line on the way is not one JSON object.
    """
    unseen = set(names)
    with _open_lines(path) as lines:
        for line in lines:
            if not unseen:
                break
            record = _parse_line(path, line)
            unseen = {name for name in unseen if not _look_up(record, name)[1]}
    return [name for name in names if name not in unseen]


@contextmanager
def _open_lines(path: Path) -> Iterator[Iterator[Line]]:
    """Number (the first is 1) and content of each line that is not blank; the file is closed at the end of the block.

    Raises:
        ConfigError: the file cannot be read, when it is opened or while the block reads on.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            yield _lines(cast(IO[bytes], file))
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(str(path), f"cannot be read: {error}") from error


def _lines(file: IO[bytes]) -> Iterator[Line]:
    for number, line in enumerate(file, 1):
        text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if text.strip():
            yield number, text.rstrip(b"\r\n")


def _parse(value: bytes) -> Record | str:
    """The JSON object, or what is wrong with it."""
    try:
        parsed = msgspec.json.decode(value)
    except _NOT_READABLE as error:
        return f"is not JSON: {error}"
    if isinstance(parsed, dict):
        return parsed
    return f"is {'a JSON array' if isinstance(parsed, list) else shorten(parsed)}, not a JSON object"


def _parse_line(path: Path, line: Line) -> Record:
    number, value = line
    parsed = _parse(value)
    if isinstance(parsed, str):
        fix = "the file must hold one JSON object a line (`jq -c` writes such lines)"
        if _NO_FINITE_NUMBER.search(value) or "Number out of range" in parsed:
            fix = "JSON has no NaN, no Infinity and no number beyond float64; write null where a number is missing"
        raise ConfigError(str(path), f"line {number} {parsed}; {fix}")
    return parsed


def _explain(path: Path, line: Line, schema: Schema) -> str | None:
    """The sentence about the value in a refused line that does not fit its kind; None when no value is to blame."""
    record = _parse_line(path, line)
    allowed: dict[str, tuple[type, ...]] = {
        "numeric": (int, float),
        "categorical": (str, int, bool),
        "boolean": (bool,),
    }
    for feature in schema.features:
        value, _ = _look_up(record, feature.name)
        for parent in _parents(feature.name):
            held, is_there = _look_up(record, parent)
            if is_there and held is not None and not isinstance(held, dict):
                found = (
                    f"line {line[0]}: field {parent!r} holds {shorten(held)}, but the schema has {feature.name!r} in it"
                )
                return f"{found}; make it an object, or leave it out of such records"
        if feature.kind == "array":
            if (problem := describe_misfit([(feature, value)])) is not None:
                return f"line {line[0]}: {problem}; {FIXES['array']}"
            continue
        wrong_flag = isinstance(value, bool) and feature.kind == "numeric"
        whole = isinstance(value, float) and value.is_integer() and feature.kind == "categorical"
        if value is not None and not whole and (wrong_flag or not isinstance(value, allowed[feature.kind])):
            found = f"line {line[0]}: field {feature.name!r} holds {shorten(value)}, but is {feature.kind}"
            return f"{found}; {FIXES[feature.kind]}"
    return None


def _look_up(record: Record, path: str) -> tuple[object, bool]:
    """The value at a dotted path, and whether the field is there at all."""
    node: object = record
    for part in path.split("."):
        if not isinstance(node, dict) or part not in node:
            return None, False
        node = node[part]
    return node, True


def _parents(path: str) -> list[str]:
    """The fields that a dotted path leads through: a and a.b of a.b.c."""
    parts = path.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _refuse_unknown(path: Path, frame: pl.DataFrame) -> None:
    """A field that is null in every record is fine, one that occurs in none is a mistake of the schema."""
    unseen = {name for name in frame.columns if frame.get_column(name).null_count() == frame.height}
    if not unseen or not frame.height:
        return
    fields: set[str] = set()
    with _open_lines(path) as lines:
        for line in lines:
            record = _parse_line(path, line)
            unseen = {name for name in unseen if not _look_up(record, name)[1]}
            if not unseen:
                return
            fields.update(record)
    there = f"the records hold {', '.join(sorted(fields)[:12])}"
    raise ConfigError(
        str(path), [f"field {name!r} occurs in no record; {there}" for name in frame.columns if name in unseen]
    )


def _as_frame(records: Sequence[Record]) -> pl.DataFrame:
    columns: dict[str, list[object]] = {}
    for row, record in enumerate(records):
        for name, value in _flatten(record, ""):
            values = columns.setdefault(name, [])
            values.extend([None] * (row - len(values)))
            values.append(value)
    for values in columns.values():
        values.extend([None] * (len(records) - len(values)))
    parents = {name[:place] for name in columns for place, char in enumerate(name) if char == "."}
    absent_objects = {name for name in parents & columns.keys() if all(value is None for value in columns[name])}
    return pl.DataFrame(
        {name: _as_series(name, values) for name, values in columns.items() if name not in absent_objects}
    )


def _flatten(record: Record, prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in record.items():
        name = prefix + key.replace(".", "..")
        if isinstance(value, dict):
            yield from _flatten(value, f"{name}.")
        else:
            yield name, value


def _as_series(name: str, values: list[object]) -> pl.Series:
    """The narrowest type that holds all values as they are: numbers, text, booleans, arrays; otherwise Object."""
    if (arrays := from_objects(name, values)) is not None:
        return arrays
    types = set(map(type, values)) - {type(None)}
    try:
        if types == {int} and all(value in _INT64 for value in values if value is not None):
            return pl.Series(name, values, dtype=pl.Int64)
        if types and types <= {int, float}:
            return pl.Series(name, [None if v is None else float(cast(float, v)) for v in values], dtype=pl.Float64)
        if not types or (len(types) == 1 and not is_deep(values, _DEEPEST)):
            return pl.Series(name, values)
    except (pl.exceptions.PolarsError, TypeError, OverflowError):
        pass  # arrays of unlike things, or a number beyond float64
    return pl.Series(name, values, dtype=pl.Object)
