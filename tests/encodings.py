"""The readings of `tests.machines` in every encoding, written by confluent-kafka's serialisers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from monitor.encodings.record_decoder import decoder_for
from monitor.model.decode import Decoder, RecordDecoder
from monitor.model.schema import Schema
from monitor.settings import Settings
from tests import machines
from tests.schema_registry import SchemaRegistryServer

MODES = ("idle", "drill", "mill")
AVRO_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Reading",
    "namespace": "tests",
    "fields": [
        {"name": "reading_id", "type": "string"},
        {"name": "machine", "type": "string"},
        {"name": "read_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "load", "type": ["null", "double"], "default": None},
        {
            "name": "motor",
            "type": {
                "type": "record",
                "name": "Motor",
                "fields": [{"name": "current_a", "type": "double"}, {"name": "temperature_c", "type": "double"}],
            },
        },
        {"name": "pieces", "type": "int"},
        {"name": "mode", "type": {"type": "enum", "name": "Mode", "symbols": list(MODES)}},
        {"name": "cooling", "type": "boolean"},
    ],
}
TABLES = {
    "avro": '\n[encoding]\nformat = "avro"\n',
    "protobuf": '\n[encoding]\nformat = "protobuf"\n',
    "float32": f'\n[encoding]\nformat = "float32"\ncodes = {{ mode = {json.dumps(MODES)} }}\n',
}
# Makes records of JSON ones.
Encode = Callable[[list[bytes]], list[bytes]]


def schema_of(encoding: str) -> Schema:
    """The schema of the machines, for records of an encoding."""
    table = {"format": encoding} | ({"codes": {"mode": MODES}} if encoding == "float32" else {})
    return Schema.from_mapping(machines.SCHEMA.model_dump() | {"encoding": table}, "tests")


def write_features(folder: Path, encoding: str) -> None:
    """The features.toml of the machines, for records of an encoding."""
    (folder / "features.toml").write_text(machines.FEATURES_TOML + TABLES[encoding])


def as_single_precision(frame: pl.DataFrame) -> pl.DataFrame:
    """Readings that float32 holds without loss."""
    return frame.with_columns(pl.col(pl.Float64).cast(pl.Float32).cast(pl.Float64))


@contextmanager
def encoders(registry_url: str, topic: str) -> Iterator[dict[str, Encode]]:
    """By encoding what makes such records; those with a schema register it."""
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroSerializer
    from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext

    context = SerializationContext(topic, MessageField.VALUE)
    with SchemaRegistryClient({"url": registry_url}) as client:
        avro = AvroSerializer(client, json.dumps(AVRO_SCHEMA))
        reading = message_types()["tests.Reading"]
        protobuf = ProtobufSerializer(reading, client, {"use.deprecated.format": False})
        yield {
            "avro": lambda records: [_bytes(avro(as_avro(record), context)) for record in records],
            "protobuf": lambda records: [_bytes(protobuf(as_message(reading, record), context)) for record in records],
            "float32": lambda records: [as_float32(record) for record in records],
        }


def _bytes(value: bytes | None) -> bytes:
    assert value is not None
    return value


def at(registry: SchemaRegistryServer, **changes: Any) -> Settings:
    """Settings that lead to a registry."""
    return Settings.model_validate({"schema_registry_url": registry.url} | changes)


def decoder_at(registry: SchemaRegistryServer, schema: Schema) -> RecordDecoder:
    """The daemon's decoder for records of a schema."""
    return decoder_for(Decoder(schema, 100_000), at(registry))


def wire(schema_id: int, content: bytes, indexes: bytes = b"") -> bytes:
    """A record in the wire format; with Protobuf, `indexes` name the message type."""
    return b"\0" + schema_id.to_bytes(4, "big") + indexes + content


def avro_content(schema: Any, record: Any) -> bytes:
    """A record in Avro alone."""
    import fastavro

    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), record)
    return stream.getvalue()


def as_avro(record: bytes) -> dict[str, Any]:
    """What the Avro serialiser takes."""
    content = json.loads(record)
    return {"load": None, **content, "read_at": datetime.fromisoformat(content["read_at"])}


def as_message(reading: Any, record: bytes) -> Any:
    """The Protobuf message of a JSON record."""
    content = json.loads(record)
    moment, mode = datetime.fromisoformat(content.pop("read_at")), content.pop("mode")
    message = reading(**content, mode=MODES.index(mode))
    message.read_at.FromDatetime(moment)
    return message


def as_float32(record: bytes) -> bytes:
    """The packed features of a JSON record."""
    content = json.loads(record)
    motor = content["motor"]
    numbers = (
        content.get("load", np.nan), motor["current_a"], motor["temperature_c"], content["pieces"],
        MODES.index(content["mode"]), content["cooling"],
    )  # fmt: skip
    return np.array(numbers, dtype="<f4").tobytes()


def message_types() -> dict[str, Any]:
    """Protobuf message classes by name; `Reading` is neither the first of its file nor without imports."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="reading.proto", package="tests", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    file.message_type.add(name="Zero").field.add(name="nothing", number=1, type=field.TYPE_BOOL, label=1)
    reading = file.message_type.add(name="Reading")
    motor = reading.nested_type.add(name="Motor")
    for number, name in enumerate(("current_a", "temperature_c"), 1):
        motor.field.add(name=name, number=number, type=field.TYPE_DOUBLE, label=1)
    mode = reading.enum_type.add(name="Mode")
    for number, name in enumerate(MODES):
        mode.value.add(name=name, number=number)
    kinds = {
        "reading_id": (field.TYPE_STRING, ""), "machine": (field.TYPE_STRING, ""), "load": (field.TYPE_DOUBLE, ""),
        "motor": (field.TYPE_MESSAGE, ".tests.Reading.Motor"), "pieces": (field.TYPE_INT64, ""),
        "mode": (field.TYPE_ENUM, ".tests.Reading.Mode"), "cooling": (field.TYPE_BOOL, ""),
        "read_at": (field.TYPE_MESSAGE, ".google.protobuf.Timestamp"),
    }  # fmt: skip
    for number, (name, (kind, type_name)) in enumerate(kinds.items(), 1):
        reading.field.add(name=name, number=number, type=kind, label=1, type_name=type_name or None)
    load = next(one for one in reading.field if one.name == "load")
    load.proto3_optional, load.oneof_index = True, 0
    reading.oneof_decl.add(name="_load")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClassesForFiles(["reading.proto"], pool)
