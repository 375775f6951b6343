"""Turns raw JSON records into typed columns; a record that does not fit the schema is set apart with its reason.

The native batch reader (polars) decides and gives the values, for one record exactly as for a thousand: whether a record
is accepted depends on that record alone. The strict decoder (msgspec) judges the few things the native reader is lax about
and puts the reason for a refusal into words. Of equal keys the first counts; nesting beyond about a thousand levels is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Protocol

import msgspec
import numpy as np
import polars as pl

from monitor.errors import InvalidRecord
from monitor.model.raw_values import RawValues
from monitor.model.schema import Schema

_DTYPES = {"numeric": pl.Float64(), "categorical": pl.String(), "boolean": pl.Boolean()}
# A category that is a whole number may be written as a float (1.0, 1e3); up to 2^53 its text is that of the whole number.
_WholeFloat = Annotated[float, msgspec.Meta(multiple_of=1, ge=-(2**53), le=2**53)]
_TYPES = {"numeric": float, "categorical": str | int | bool | _WholeFloat, "boolean": bool}
_MOST_TRUSTED_DIGITS = 15
_SHOWN_DETAIL = 200
# How zlib, gzip and zstd begin and JSON never does: the native reader would unpack it, however much is in there.
_COMPRESSED = (b"x", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
# What the native reader refuses although it is JSON.
_NATIVE_LIMITS = "a number is beyond 1e308 or a whole number beyond 128 bits, or objects nest too deep"


@dataclass(frozen=True)
class Decoded:
    """A batch of records, sorted into the good and the bad.

    Attributes:
        frame: the good records in order, one column a feature (Float64, String, Boolean; null is missing).
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

    _native_schema: pl.Schema = field(init=False, repr=False)
    _strict: msgspec.json.Decoder[object] = field(init=False, repr=False)
    _paths: list[pl.Expr] = field(init=False, repr=False)
    _nested: bool = field(init=False, repr=False)
    _required: list[str] = field(init=False, repr=False)
    _trusted: dict[str, pl.Enum] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        tree = _as_tree(self.schema)
        derive = object.__setattr__
        derive(self, "_native_schema", _native_schema(tree))
        derive(self, "_strict", msgspec.json.Decoder(_strict_type(tree, "Record")))
        derive(self, "_paths", [_path_expression(name) for name in self.schema.feature_names])
        derive(self, "_nested", any("." in name for name in self.schema.feature_names))
        derive(self, "_required", [feature.name for feature in self.schema.features if feature.missing == "reject"])
        derive(self, "_trusted", _trusted(self.schema, self.levels))

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
        lines = values.lines()
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
        """Reads lines natively; None when any of them is refused."""
        if lines.startswith(_COMPRESSED):
            return None
        try:
            frame = pl.read_ndjson(lines, schema=self._native_schema)  # a stream would leave an object behind
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            return None
        if frame.height != count:
            return None
        return frame.select(self._paths) if self._nested else frame

    def _empty(self) -> pl.DataFrame:
        return pl.DataFrame(schema={feature.name: _DTYPES[feature.kind] for feature in self.schema.features})

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
            self._strict.decode(line)
        except msgspec.ValidationError as error:
            return InvalidRecord(_reason_of(str(error)), _shorten(str(error).replace("$.", "")))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return InvalidRecord("not_json", _shorten(str(error)))
        return None

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


def _trusted(schema: Schema, levels: dict[str, tuple[str, ...]]) -> dict[str, pl.Enum]:
    """Per category the levels that only a JSON string, whole number or boolean reads as."""
    return {
        name: pl.Enum([level for level in levels.get(name, ()) if _is_plain(level)])
        for name in schema.of_kind("categorical")
    }


def _is_plain(level: str) -> bool:
    """Whether only a JSON string, whole number or boolean reads as this level."""
    return (level.isdecimal() and len(level) <= _MOST_TRUSTED_DIGITS) or (
        level != "" and level[0].isalpha() and "\x00" not in level
    )


def _as_tree(schema: Schema) -> dict[str, object]:
    """Nested dict of kinds: `{"card": {"country": "categorical"}, …}`."""
    tree: dict[str, object] = {}
    for feature in schema.features:
        *parents, leaf = feature.name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})  # type: ignore[assignment]
        node[leaf] = feature.kind
    return tree


def _native_schema(tree: dict[str, object]) -> pl.Schema:
    return pl.Schema(
        {
            name: pl.Struct(_native_schema(node)) if isinstance(node, dict) else _DTYPES[str(node)]
            for name, node in tree.items()
        }
    )


def _strict_type(tree: dict[str, object], name: str) -> type[msgspec.Struct]:
    """A struct type of the same shape; its fields are numbered, since a field of a record may bear any name."""
    fields: list[tuple[str, object, object]] = []
    names: dict[str, str] = {}
    for place, (key, node) in enumerate(tree.items()):
        type_ = _strict_type(node, f"{name}_{place}") if isinstance(node, dict) else _TYPES[str(node)]
        fields.append((f"field_{place}", type_ | None, None))
        names[f"field_{place}"] = key
    return msgspec.defstruct(name, fields, rename=names)


def _path_expression(path: str) -> pl.Expr:
    first, *rest = path.split(".")
    expression = pl.col(first)
    for part in rest:
        expression = expression.struct.field(part)
    return expression.alias(path)


def _reason_of(message: str) -> str:
    return "not_one_object" if message.startswith("Expected `object`") and "$" not in message else "wrong_type"


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_DETAIL else text[: _SHOWN_DETAIL - 1] + "…"
