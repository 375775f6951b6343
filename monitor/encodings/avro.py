"""Reads Avro records with the schema they were written with, by fastavro (extra `encodings`)."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

from monitor.encodings.schema_registry import RegisteredSchema, SchemaRegistry
from monitor.encodings.transcoding import PREFIX_BYTES, Reader, damaged
from monitor.errors import InvalidRecord

# What fastavro raises on bytes that are no such record; found by giving it random ones.
_DAMAGE = (
    ValueError, LookupError, TypeError, EOFError, ArithmeticError, struct.error, RecursionError, MemoryError,
)  # fmt: skip


def avro_reader(registry: SchemaRegistry, schema: RegisteredSchema) -> Reader:
    """A function that reads records of one schema.

    Logical types become what they stand for: times and dates are written as ISO 8601 text, decimals as numbers, UUIDs as text;
    bytes as text in base64.

    Raises:
        InvalidRecord: the schema is not valid or cannot be read safely; so none of its records can be.
        SchemaRegistryError: a schema that it is built upon cannot be had.
    """
    from fastavro import parse_schema, schemaless_reader
    from fastavro.schema import SchemaParseException, UnknownType

    named: dict[str, Any] = {}
    try:
        for part in _with_references(registry, schema):
            parsed = parse_schema(json.loads(part.text), named_schemas=named)
        _takes_bytes(parsed, named)
    except (SchemaParseException, UnknownType, *_DAMAGE) as error:
        raise damaged("is not a valid Avro schema", error) from error

    def read(value: bytes) -> object:
        stream = io.BytesIO(value)
        stream.seek(PREFIX_BYTES)
        try:
            record = schemaless_reader(stream, parsed, None)
        except _DAMAGE as error:
            raise damaged("is no Avro record of its schema", error) from error
        left = len(value) - stream.tell()
        if left:
            raise InvalidRecord("wrong_encoding", f"is no Avro record of its schema: {left} bytes are left behind it")
        return record

    return read


def _with_references(registry: SchemaRegistry, schema: RegisteredSchema) -> list[RegisteredSchema]:
    """The schemas that one is built upon, each once and behind those that it is built upon itself, then that one."""
    parts: dict[str, RegisteredSchema] = {}
    for reference in schema.references:
        for part in _with_references(registry, registry.referenced(reference)):
            parts[part.text] = part
    return [*parts.values(), schema]


def _takes_bytes(schema: Any, named: dict[str, Any], inside: tuple[str, ...] = ()) -> bool:
    """Whether a value of a parsed schema takes any bytes at all.

    Raises:
        InvalidRecord: the schema contains itself, or an array whose items take no bytes. Of such a schema a small record may
            exhaust stack or memory, and fastavro has no limit for either.
    """
    if isinstance(schema, list):  # which branch it is takes a byte
        for branch in schema:
            _takes_bytes(branch, named, inside)
        return True
    if isinstance(schema, str):
        if schema in inside:
            raise InvalidRecord("wrong_encoding", f"{schema} contains itself, which is not supported")
        return _takes_bytes(named[schema], named, inside) if schema in named else schema != "null"
    kind = schema["type"]
    if kind == "array" and not _takes_bytes(schema["items"], named, inside):
        raise InvalidRecord("wrong_encoding", "an array's items take no bytes, which is not supported")
    if kind == "map":
        _takes_bytes(schema["values"], named, inside)
    if kind in {"record", "error"}:
        inside = (*inside, schema["name"])
        return True in [_takes_bytes(part["type"], named, inside) for part in schema["fields"]]
    return schema["size"] > 0 if kind == "fixed" else bool(kind != "null")
