"""Turns raw JSON records into typed columns; a record that does not fit the schema is set apart with its reason.

The native batch reader (polars) decides and gives the values, for one record exactly as for a thousand: whether a record
is accepted depends on that record alone. The strict decoder (msgspec) judges the few things the native reader is lax about
and puts the reason for a refusal into words. Of equal keys the first counts; nesting beyond about a thousand levels is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import numpy as np
import polars as pl

from monitor.errors import InvalidRecord
from monitor.model.array_values import describe_misfit, flatten
from monitor.model.columns import dtype_of
from monitor.model.raw_values import RawValues
from monitor.model.record_types import (
    as_tree,
    fields_to,
    flat,
    native_schema,
    nested,
    path_expression,
    strict_type,
    trusted_levels,
    value_at,
)
from monitor.model.schema import Feature, Schema

_SHOWN_DETAIL = 200
# How zlib, gzip and zstd begin and JSON never does: the native reader would unpack it, however much is in there.
_COMPRESSED = (b"x", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
# What the native reader refuses although it is JSON.
_NATIVE_LIMITS = "a number is beyond 1e308 or a whole number beyond 128 bits, or objects nest too deep"


@dataclass(frozen=True)
class Decoded:
    """A batch of records, sorted into the good and the bad.

    Attributes:
        frame: the good records in order, one column a feature (Float64, String, Boolean, Array; null is missing).
        rows: their positions in the batch, ascending.
        invalid: position and reason of each bad record, ascending.
        documents: the whole batch as JSON, for alerts; what stands in the place of a bad record means nothing.
    """

    frame: pl.DataFrame
    rows: Sequence[int]
    invalid: tuple[tuple[int, InvalidRecord], ...]
    documents: Sequence[bytes | None]


class RecordDecoder(Protocol):
    """Decodes batches of records, in whatever way they are written."""

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Sorts raw record values, as they came from Kafka, into the good and the bad; None is a record without a value."""


@dataclass(frozen=True)
class Decoder:
    """Decodes batches for one schema.

    Attributes:
        schema: what a record must look like.
        max_record_bytes: larger records are refused unread.
        levels: per categorical feature the levels known from training. A value outside of them may be a number or an
            object that the native reader turned into text, so those records are judged by the strict decoder too.
    """

    schema: Schema
    max_record_bytes: int
    levels: dict[str, tuple[str, ...]] = field(default_factory=dict)

    _native_schemas: list[pl.Schema] = field(init=False, repr=False)
    _arrays: dict[Feature, list[str]] = field(init=False, repr=False)
    _strict: msgspec.json.Decoder[object] = field(init=False, repr=False)
    _paths: list[pl.Expr] = field(init=False, repr=False)
    _nested: bool = field(init=False, repr=False)
    _required: list[str] = field(init=False, repr=False)
    _trusted: dict[str, pl.Enum] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        tree = as_tree(self.schema)
        derive = object.__setattr__
        forms = (flat, nested) if any(feature.n_dimensions > 1 for feature in self.schema.features) else (flat,)
        derive(self, "_native_schemas", [native_schema(tree, form) for form in forms])
        arrays = [feature for feature in self.schema.features if feature.kind == "array"]
        derive(self, "_arrays", {feature: fields_to(feature.name, tree) for feature in arrays})
        derive(self, "_strict", msgspec.json.Decoder(strict_type(tree, "Record")))
        derive(self, "_paths", [path_expression(name) for name in self.schema.feature_names])
        derive(self, "_nested", any("." in name for name in self.schema.feature_names))
        derive(self, "_required", [feature.name for feature in self.schema.features if feature.missing == "reject"])
        derive(self, "_trusted", trusted_levels(self.schema, self.levels))

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decodes a batch.

        Args:
            values: raw record values as they came from Kafka; None is a record without a value.
        """
        values = values if isinstance(values, RawValues) else RawValues.of(values)
        invalid: dict[int, InvalidRecord] = {}
        rows: Sequence[int] = range(len(values))
        frame = self._read_clean(values)
        lines: Mapping[int, bytes] = {}
        if frame is None:
            lines = self._screen(values, invalid)
            rows, frame = self._read_around_bad_ones(lines, invalid)
        rows, frame = self._refuse_lax(values, rows, frame, escaped=bool(lines), invalid=invalid)
        rows, frame = self._refuse_incomplete(rows, frame, invalid)
        return Decoded(frame=frame, rows=rows, invalid=tuple(sorted(invalid.items())), documents=values)

    def _read_clean(self, values: RawValues) -> pl.DataFrame | None:
        """Reads a batch in which nothing is unusual in one go; None when anything may be, which costs a second look."""
        if not len(values):
            return self._empty()
        if values.sizes.min() <= 0 or values.sizes.max() > self.max_record_bytes:
            return None
        lines = values.text
        if _count(lines, b"\n") != len(values) - 1:
            return None
        if b"\\" in lines and b"\\u" in lines:  # the search for one byte is far faster than that for two
            return None
        return self._read(lines, len(values))

    def _screen(self, values: RawValues, invalid: dict[int, InvalidRecord]) -> dict[int, bytes]:
        """Sets aside what can only be bad; returns the rest by position, each on one line as the native reader needs it."""
        lines: dict[int, bytes] = {}
        for row, value in enumerate(values):
            if value is None or not value.strip():
                invalid[row] = InvalidRecord(
                    "empty", "no value (null)" if value is None else f"{len(value)} bytes, all blank"
                )
            elif len(value) > self.max_record_bytes:
                invalid[row] = InvalidRecord(
                    "too_large", f"{len(value)} bytes, max_record_bytes is {self.max_record_bytes}"
                )
            elif b"\n" not in value:
                lines[row] = value
            elif self._refusal(value) is not None:
                invalid[row] = self._explain(value)
            else:  # no raw line break inside a string, so all of them are white space between tokens
                lines[row] = value.replace(b"\n", b" ")
        return lines

    def _read(self, lines: bytes, count: int) -> pl.DataFrame | None:
        """Reads lines natively; None when any of them is refused, or when some hold flat arrays and others nested ones."""
        if lines.startswith(_COMPRESSED):
            return None
        for schema in self._native_schemas:
            frame = self._read_as(schema, lines, count)
            if frame is not None:
                return frame
        return None

    def _read_as(self, schema: pl.Schema, lines: bytes, count: int) -> pl.DataFrame | None:
        try:
            frame = pl.read_ndjson(lines, schema=schema)  # a stream would leave an object behind
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            return None
        if frame.height != count:
            return None
        frame = frame.select(self._paths) if self._nested else frame
        for feature in self._arrays:
            column = flatten(frame.get_column(feature.name), feature)
            if column is None:
                return None
            frame = frame.with_columns(column)
        return frame

    def _empty(self) -> pl.DataFrame:
        return pl.DataFrame(schema={feature.name: dtype_of(feature) for feature in self.schema.features})

    def _read_around_bad_ones(
        self, lines: Mapping[int, bytes], invalid: dict[int, InvalidRecord]
    ) -> tuple[list[int], pl.DataFrame]:
        """Reads the batch without its bad records: the strict decoder suspects, the native reader convicts, one by one."""
        suspects = [row for row, line in lines.items() if self._refusal(line) is not None]
        convicted = {row for row in suspects if self._read(lines[row], 1) is None}
        good: list[int] = []
        frames: list[pl.DataFrame] = []
        self._bisect(lines, [row for row in lines if row not in convicted], good, frames, convicted)
        for row in convicted:
            invalid[row] = self._explain(lines[row])
        return good, pl.concat(frames) if frames else self._empty()

    def _bisect(
        self,
        lines: Mapping[int, bytes],
        rows: list[int],
        good: list[int],
        frames: list[pl.DataFrame],
        convicted: set[int],
    ) -> None:
        """Reads rows in as few native calls as their bad ones allow; appends in ascending order."""
        if not rows:
            return
        frame = self._read(b"\n".join(lines[row] for row in rows), len(rows))
        if frame is not None:
            good.extend(rows)
            frames.append(frame)
        elif len(rows) == 1:
            convicted.add(rows[0])
        else:
            middle = len(rows) // 2
            self._bisect(lines, rows[:middle], good, frames, convicted)
            self._bisect(lines, rows[middle:], good, frames, convicted)

    def _refuse_lax(
        self,
        values: RawValues,
        rows: Sequence[int],
        frame: pl.DataFrame,
        *,
        escaped: bool,
        invalid: dict[int, InvalidRecord],
    ) -> tuple[Sequence[int], pl.DataFrame]:
        """Refuses what the native reader lets pass: lone surrogates, and fractions, objects or arrays as a category.

        Only where a record may hold an escape (`escaped`) are surrogates looked for.
        """
        places = self._untrusted_places(frame)
        if escaped:
            places.update(place for place, row in enumerate(rows) if b"\\u" in (values[row] or b""))
        refused = {
            place: reason for place in places if (reason := self._refusal(values[rows[place]] or b"")) is not None
        }
        return _without(rows, frame, refused, invalid)

    def _untrusted_places(self, frame: pl.DataFrame) -> set[int]:
        """Where a category holds text that the native reader may have made from a fraction, an object or an array."""
        places: set[int] = set()
        for name, levels in self._trusted.items():
            values = frame.get_column(name)
            known = values.cast(levels, strict=False)
            if known.null_count() != values.null_count():
                unknown = np.isnan(known.to_physical().to_numpy())
                places.update(np.flatnonzero(unknown & values.is_not_null().to_numpy()).tolist())
        return places

    def _refuse_incomplete(
        self, rows: Sequence[int], frame: pl.DataFrame, invalid: dict[int, InvalidRecord]
    ) -> tuple[Sequence[int], pl.DataFrame]:
        refused: dict[int, InvalidRecord] = {}
        for name in self._required:
            for place in frame.get_column(name).is_null().arg_true().to_list():
                detail = f"{name} is absent or null and the schema says missing = 'reject'"
                refused.setdefault(place, InvalidRecord("missing_field", detail))
        return _without(rows, frame, refused, invalid)

    def _refusal(self, line: bytes) -> InvalidRecord | None:
        """The strict decoder's verdict on one record."""
        try:
            record = self._strict.decode(line)
        except msgspec.ValidationError as error:
            return InvalidRecord(_reason_of(str(error)), _shorten(str(error).replace("$.", "")))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return InvalidRecord("not_json", _shorten(str(error)))
        problem = describe_misfit([(feature, value_at(record, path)) for feature, path in self._arrays.items()])
        return None if problem is None else InvalidRecord("wrong_type", _shorten(problem))

    def _explain(self, line: bytes) -> InvalidRecord:
        """The best words for a record that the native reader refuses."""
        try:
            line.decode()
        except UnicodeDecodeError as error:
            return InvalidRecord("not_utf8", f"byte {line[error.start]:#04x} at {error.start}")
        return self._refusal(line) or InvalidRecord("not_json", _NATIVE_LIMITS)


def _count(text: bytes, octet: bytes) -> int:
    """How often a byte occurs; five times as fast as `bytes.count`, and without the interpreter."""
    return int(np.count_nonzero(np.frombuffer(text, dtype=np.uint8) == octet[0]))


def _without(
    rows: Sequence[int], frame: pl.DataFrame, refused: dict[int, InvalidRecord], invalid: dict[int, InvalidRecord]
) -> tuple[Sequence[int], pl.DataFrame]:
    """Moves the refused places (positions in the frame) over to the invalid ones."""
    if not refused:
        return rows, frame
    invalid.update({rows[place]: reason for place, reason in refused.items()})
    kept = [place for place in range(len(rows)) if place not in refused]
    return [rows[place] for place in kept], frame[kept]


def _reason_of(message: str) -> str:
    return "not_one_object" if message.startswith("Expected `object`") and "$" not in message else "wrong_type"


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_DETAIL else text[: _SHOWN_DETAIL - 1] + "…"
