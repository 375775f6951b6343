"""Records in Confluent's wire format: each becomes JSON, and the JSON decoder judges it like any other.

The format: a zero byte, the schema's id (four bytes, big-endian), for Protobuf the place of the message type in its file, the
record. A schema is asked for once.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

import msgspec

from monitor.encodings.schema_registry import RegisteredSchema, SchemaRegistry
from monitor.errors import InvalidRecord
from monitor.model.decode import Decoded, Decoder

# Makes plain objects of what stands in a value behind the schema's id.
Reader = Callable[[bytes], object]
# Makes the reader of a schema; raises InvalidRecord when that is not possible for this one.
ReaderMaker = Callable[[SchemaRegistry, RegisteredSchema], Reader]
# Calls a function that asks the registry, again and again where that is wanted.
Patience = Callable[[Callable[[], Reader]], Reader]

MAGIC = 0
PREFIX_BYTES = 5
UNKNOWN_S = 60.0
_MOST_READERS = 10_000
_SHOWN_DETAIL = 200
_TO_JSON = msgspec.json.Encoder(decimal_format="number")


def impatient(ask: Callable[[], Reader]) -> Reader:
    """Asks once; what that raises ends the command."""
    return ask()


def damaged(problem: str, error: Exception) -> InvalidRecord:
    """The reason for a record that a library refuses, on one line."""
    return InvalidRecord("wrong_encoding", f"{problem}: {error!r}"[:_SHOWN_DETAIL])


@dataclass(frozen=True)
class TranscodingDecoder:
    """Decodes batches of such records.

    Attributes:
        json: judges the records, once they are JSON.
        transcode: makes JSON of one; raises InvalidRecord.
    """

    json: Decoder
    transcode: Callable[[bytes], bytes]

    _unlimited: Decoder = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_unlimited", replace(self.json, max_record_bytes=sys.maxsize))

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """See `monitor.model.decode.RecordDecoder`."""
        invalid: dict[int, InvalidRecord] = {}
        documents: list[bytes | None] = [None] * len(values)
        for row, value in enumerate(values):
            try:
                documents[row] = self._document(value)
            except InvalidRecord as reason:
                invalid[row] = reason
        rows = [row for row, document in enumerate(documents) if document is not None]
        decoded = self._unlimited.decode([documents[row] for row in rows])
        invalid.update((rows[place], reason) for place, reason in decoded.invalid)
        return replace(
            decoded,
            rows=[rows[place] for place in decoded.rows],
            invalid=tuple(sorted(invalid.items())),
            documents=documents,
        )

    def _document(self, value: bytes | None) -> bytes:
        if not value:
            raise InvalidRecord("empty", "no value (null)" if value is None else "0 bytes")
        if len(value) > self.json.max_record_bytes:
            raise InvalidRecord("too_large", f"{len(value)} bytes, max_record_bytes is {self.json.max_record_bytes}")
        return self.transcode(value)


@dataclass
class Transcoder:
    """Makes JSON of single records; several threads may use it.

    Attributes:
        registry: knows their schemas.
        schema_type: of the schemas, as the registry calls it.
        make_reader: for one schema.
        patience: what to do when the registry cannot be reached.
        clock: monotonic seconds.
    """

    registry: SchemaRegistry
    schema_type: str
    make_reader: ReaderMaker
    patience: Patience = impatient
    clock: Callable[[], float] = time.monotonic
    _readers: dict[int, Reader] = field(default_factory=dict)
    _asked: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, value: bytes) -> bytes:
        """One record as JSON.

        Raises:
            InvalidRecord: it is no such record, or its schema is unknown or unusable.
            SchemaRegistryError: the registry cannot be reached, and `patience` is over.
        """
        if len(value) < PREFIX_BYTES or value[0] != MAGIC:
            problem = "does not begin with the magic byte 0 and a schema id of four bytes"
            raise InvalidRecord("wrong_encoding", f"{len(value)} bytes from {value[:1]!r} on: it {problem}")
        schema_id = int.from_bytes(value[1:PREFIX_BYTES], "big")
        reader = self._readers.get(schema_id) or self._find(schema_id)
        content = reader(value)
        try:
            if _may_hold_infinity(value):
                _refuse_infinity(content)
            return _TO_JSON.encode(content)
        except (RecursionError, TypeError, ValueError, OverflowError) as error:
            raise damaged("cannot be written as JSON", error) from error

    def _find(self, schema_id: int) -> Reader:
        """Asks for a schema, one thread at a time; the others find the answer."""
        with self._asked:
            if schema_id not in self._readers:
                if len(self._readers) >= _MOST_READERS:
                    self._readers.clear()
                self._readers[schema_id] = self.patience(lambda: self._ask(schema_id))
            return self._readers[schema_id]

    def _ask(self, schema_id: int) -> Reader:
        found = self.registry.schema(schema_id)
        if found is None:
            return self._refuser(schema_id)
        if found.type != self.schema_type:
            problem = f"schema {schema_id} is of type {found.type}, features.toml says {self.schema_type.lower()}"
            return _refusing(InvalidRecord("wrong_encoding", problem))
        try:
            return self.make_reader(self.registry, found)
        except InvalidRecord as reason:
            return _refusing(InvalidRecord(reason.reason, f"schema {schema_id}: {reason.detail}"))

    def _refuser(self, schema_id: int) -> Reader:
        """Refuses records of an unknown schema, for a while without asking again: it may still be registered."""
        reason = InvalidRecord("unknown_schema", f"the schema registry has no schema {schema_id}")
        until = self.clock() + UNKNOWN_S

        def refuse(_value: bytes) -> NoReturn:
            if self.clock() > until:
                self._readers.pop(schema_id, None)
            raise reason

        return refuse


def _refusing(reason: InvalidRecord) -> Reader:
    def refuse(_value: bytes) -> NoReturn:
        raise reason

    return refuse


def _may_hold_infinity(value: bytes) -> bool:
    """Whether the last two bytes of an infinite float or double (little-endian) are anywhere in it."""
    return b"\xf0\x7f" in value or b"\xf0\xff" in value or b"\x80\x7f" in value or b"\x80\xff" in value


def _refuse_infinity(content: object) -> None:
    """JSON has no infinite number, so a record with one is refused in every encoding.

    Raises:
        InvalidRecord: there is one, anywhere.
    """
    if isinstance(content, float) and math.isinf(content):
        raise InvalidRecord("wrong_type", f"Expected finite numbers, got {content}")
    for part in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        _refuse_infinity(part)
