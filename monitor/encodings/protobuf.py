"""Reads Protobuf records by the file descriptors that the registry keeps, with the protobuf runtime (extra `encodings`)."""

from __future__ import annotations

import base64
import importlib
from collections.abc import Callable
from typing import Any

from monitor.encodings.schema_registry import RegisteredSchema, SchemaRegistry, SchemaRegistryError
from monitor.encodings.transcoding import PREFIX_BYTES, Reader, damaged
from monitor.errors import InvalidRecord

# How the registry is asked for file descriptors instead of .proto text.
QUERY = "?format=serialized"
# Each behind those that it imports itself.
_WELL_KNOWN = (
    "descriptor", "source_context", "any", "type", "api", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers",
)  # fmt: skip
_WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_MOST_INDEXES = 32
# Makes plain objects of a message, or of one value of a field.
_ToPlain = Callable[[Any], object]


def protobuf_reader(registry: SchemaRegistry, schema: RegisteredSchema) -> Reader:
    """A function that reads records of one schema, of whichever of its message types.

    Fields have the names of the .proto file. A field that was not set is left out where the language tells (message, `optional`,
    `oneof`, proto2), else it has its default value. Enumerations are names, 64-bit integers numbers, bytes base64 text, times
    ISO 8601 text, wrappers the value in them.

    Raises:
        InvalidRecord: the schema cannot be put together; so none of its records can be read.
        SchemaRegistryError: a schema that it is built upon cannot be had, or the registry gives no file descriptors.
    """
    from google.protobuf.message import DecodeError

    file = _load(registry, schema)
    types: dict[tuple[int, ...], tuple[Callable[[bytes], Any], _ToPlain]] = {}

    def read(value: bytes) -> object:
        indexes, start = _message_indexes(value)
        if indexes not in types:
            types[indexes] = _message_type(file, indexes)
        parse, to_plain = types[indexes]
        try:
            return to_plain(parse(value[start:]))
        except (DecodeError, ValueError, TypeError, OverflowError) as error:
            raise damaged("is no Protobuf message of its schema", error) from error

    return read


def _load(registry: SchemaRegistry, schema: RegisteredSchema) -> Any:
    """The descriptor of the schema's file, in a pool of its own with all that it imports."""
    from google.protobuf.descriptor_pool import Default, DescriptorPool

    pool = DescriptorPool()
    for name in _WELL_KNOWN:
        importlib.import_module(f"google.protobuf.{name}_pb2")
        pool.AddSerializedFile(Default().FindFileByName(f"google/protobuf/{name}.proto").serialized_pb)
    return _add(pool, registry, schema, "default.proto")


def _add(pool: Any, registry: SchemaRegistry, schema: RegisteredSchema, name: str) -> Any:
    """Adds a file under the name by which others import it, behind those that it imports itself."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.message import DecodeError

    for reference in schema.references:
        _add(pool, registry, registry.referenced(reference), reference.name)
    try:
        file = FileDescriptorProto.FromString(base64.b64decode(schema.text, validate=True))
    except (ValueError, DecodeError) as error:
        problem = "gives no serialised file descriptors for Protobuf (?format=serialized)"
        raise SchemaRegistryError(registry.url, problem) from error
    file.name = name
    try:
        pool.Add(file)
        return pool.FindFileByName(name)
    except (TypeError, KeyError) as error:
        raise damaged("cannot be put together", error) from error


def _message_indexes(value: bytes) -> tuple[tuple[int, ...], int]:
    """Where the message type stands in its file: its number, then numbers within the outer types; and where the message begins.

    Raises:
        InvalidRecord: it is cut off, or nests too deep.
    """
    count, place = _varint(value, PREFIX_BYTES)
    if count == 0:  # short for the first message of the file
        return (0,), place
    if not 0 < count <= _MOST_INDEXES:
        raise InvalidRecord("wrong_encoding", f"names its message type by {count} indexes")
    indexes = []
    for _ in range(count):
        index, place = _varint(value, place)
        indexes.append(index)
    return tuple(indexes), place


def _varint(value: bytes, place: int) -> tuple[int, int]:
    """A zigzag varint of at most five bytes, and the place behind it."""
    number = 0
    for shift, octet in zip(range(0, 35, 7), value[place : place + 5], strict=False):
        number |= (octet & 0x7F) << shift
        place += 1
        if octet < 0x80:
            return (number >> 1) ^ -(number & 1), place
    raise InvalidRecord("wrong_encoding", "is cut off where its message type should be named")


def _message_type(file: Any, indexes: tuple[int, ...]) -> tuple[Callable[[bytes], Any], _ToPlain]:
    """The parser of a message type, and what makes plain objects of its messages."""
    from google.protobuf.message_factory import GetMessageClass

    types = list(file.message_types_by_name.values())
    found = None
    for index in indexes:
        if not 0 <= index < len(types):
            raise InvalidRecord("wrong_encoding", f"its schema has no message type at {list(indexes)}")
        found = types[index]
        types = list(found.nested_types)
    return GetMessageClass(found).FromString, _plain_message(found, {})


def _plain_message(descriptor: Any, known: dict[str, _ToPlain]) -> _ToPlain:
    """What makes a dict of a message; a type that contains itself leads back to the same function."""
    name: str = descriptor.full_name
    if name in _WRAPPERS:
        return lambda message: message.value
    if descriptor.file.name.startswith("google/protobuf/"):
        return _canonical
    if name in known:
        return known[name]
    always: list[str] = []
    others: list[tuple[str, Callable[[Any, str], bool], _ToPlain]] = []
    known[name] = lambda message: {
        **{field: getattr(message, field) for field in always},
        **{field: to_plain(getattr(message, field)) for field, is_set, to_plain in others if is_set(message, field)},
    }
    for field in descriptor.fields:
        to_plain = _plain_value(field, known)
        if to_plain is None and not field.has_presence:
            always.append(field.name)
        else:
            is_set = _has_field if field.has_presence else _always
            others.append((field.name, is_set, to_plain or _itself))
    return known[name]


def _plain_value(field: Any, known: dict[str, _ToPlain]) -> _ToPlain | None:
    """What makes plain objects of a field's value; None when it is plain already."""
    if _is_map(field):
        of_value = _plain_value(field.message_type.fields_by_name["value"], known) or _itself
        return lambda entries: {_key_text(key): of_value(entries[key]) for key in entries}
    one: _ToPlain | None = None
    if field.message_type is not None:
        one = _plain_message(field.message_type, known)
    elif field.enum_type is not None:
        names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        one = lambda number: names.get(number, number)  # noqa: E731 - it stands beside the other two
    if not field.is_repeated:
        return one
    each = one or _itself
    return lambda values: [each(value) for value in values]


def _is_map(field: Any) -> bool:
    return field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry


def _key_text(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _canonical(message: Any) -> object:
    """The form that Protobuf's own JSON mapping gives to the types of google.protobuf: times, durations, structs."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True)


def _has_field(message: Any, field: str) -> bool:
    return bool(message.HasField(field))


def _always(_message: Any, _field: str) -> bool:
    return True


def _itself(value: Any) -> object:
    return value
