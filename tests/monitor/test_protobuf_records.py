"""Protobuf: what its types become, files that import others, and how the message type is named."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

from monitor.encodings.record_decoder import transcoder_for
from monitor.errors import InvalidRecord
from monitor.model.schema import Schema
from tests.encodings import at, decoder_at, wire
from tests.schema_registry import SchemaRegistryServer


@pytest.fixture
def registry() -> Iterator[SchemaRegistryServer]:
    with SchemaRegistryServer() as server:
        yield server


def registered_protobuf(registry: SchemaRegistryServer, file: Any, references: Any = ()) -> int:
    text = base64.b64encode(file.SerializeToString()).decode()
    return registry.register(file.name, text, "PROTOBUF", references)


def test_protobufs_types_have_a_documented_form_in_json(registry: SchemaRegistryServer) -> None:
    kind = descriptor_pb2.FieldDescriptorProto
    shared = descriptor_pb2.FileDescriptorProto(name="shared/point.proto", package="geo", syntax="proto3")
    shared.message_type.add(name="Point").field.add(name="x", number=1, type=kind.TYPE_DOUBLE, label=1)
    file = descriptor_pb2.FileDescriptorProto(name="all.proto", package="all", syntax="proto3")
    file.dependency.extend(["shared/point.proto", "google/protobuf/wrappers.proto"])
    node = file.message_type.add(name="Zebra").nested_type.add(name="Node")  # the first in the file, the last by name
    file.message_type.add(name="Ant")
    level = node.enum_type.add(name="Level")
    for number, name in enumerate(("LOW", "HIGH")):
        level.value.add(name=name, number=number)
    entry = node.nested_type.add(name="TagsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kind.TYPE_BOOL, label=1)
    entry.field.add(name="value", number=2, type=kind.TYPE_ENUM, label=1, type_name=".all.Zebra.Node.Level")
    fields = {
        "big": (kind.TYPE_UINT64, 1, ""), "raw": (kind.TYPE_BYTES, 1, ""), "absent": (kind.TYPE_STRING, 1, ""),
        "level": (kind.TYPE_ENUM, 1, ".all.Zebra.Node.Level"), "many": (kind.TYPE_INT32, 3, ""),
        "point": (kind.TYPE_MESSAGE, 1, ".geo.Point"), "other": (kind.TYPE_MESSAGE, 1, ".geo.Point"),
        "inner": (kind.TYPE_MESSAGE, 1, ".all.Zebra.Node"), "tags": (kind.TYPE_MESSAGE, 3, ".all.Zebra.Node.TagsEntry"),
        "wrapped": (kind.TYPE_MESSAGE, 1, ".google.protobuf.Int64Value"),
    }  # fmt: skip
    for number, (name, (type_, label, type_name)) in enumerate(fields.items(), 1):
        node.field.add(name=name, number=number, type=type_, label=label, type_name=type_name or None)
    pool = descriptor_pool.DescriptorPool()
    for one in (shared, file):
        if one is file:
            pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
        pool.Add(one)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("all.Zebra.Node"))(
        big=2**64 - 1,
        raw=b"\0\xff",
        level=1,
        many=[3, 0],
        inner={"big": 5},
        wrapped={"value": 2**53},
        tags={True: 1, False: 7},
    )
    message.point.x = 1.5
    registered_protobuf(registry, shared)
    to_shared = {"name": "shared/point.proto", "subject": "shared/point.proto", "version": 1}
    schema_id = registered_protobuf(registry, file, [to_shared])
    transcode = transcoder_for("protobuf", at(registry))
    document = json.loads(transcode(wire(schema_id, message.SerializeToString(), b"\4\0\0")))
    inner = {"big": 5, "raw": "", "absent": "", "level": "LOW", "many": [], "tags": {}}
    assert document == {
        "big": 2**64 - 1, "raw": "AP8=", "absent": "", "level": "HIGH", "many": [3, 0], "point": {"x": 1.5},
        "inner": inner, "wrapped": 2**53, "tags": {"true": "HIGH", "false": 7},
    }  # fmt: skip
    assert json.loads(transcode(wire(schema_id, b"", b"\0"))) == {}
    for indexes, told in [(b"\2\4", "[2]"), (b"\4\0\2", "[0, 1]"), (b"\2\1", "[-1]")]:
        with pytest.raises(InvalidRecord, match="its schema has no message type at") as error:
            transcode(wire(schema_id, b"", indexes))
        assert error.value.detail.endswith(told)
    for indexes in (b"", b"\x80", b"\2", b"\x7e", b"\1"):
        with pytest.raises(InvalidRecord, match="message type"):
            transcode(wire(schema_id, b"", indexes))


def test_a_repeated_number_is_an_array_feature_row_by_row(registry: SchemaRegistryServer) -> None:
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="scan.proto", package="scan", syntax="proto3")
    file.message_type.add(name="Scan").field.add(name="image", number=1, type=kind.TYPE_FLOAT, label=3)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    scan = message_factory.GetMessageClass(pool.FindMessageTypeByName("scan.Scan"))
    schema_id = registered_protobuf(registry, file)
    features = [{"name": "image", "kind": "array", "shape": [2, 2]}]
    schema = Schema.from_mapping({"name": "t", "features": features, "encoding": {"format": "protobuf"}}, "tests")
    values = [wire(schema_id, scan(image=image).SerializeToString(), b"\0") for image in ([1, 2, 3, 4.5], [1], [])]
    decoded = decoder_at(registry, schema).decode(values)
    assert decoded.frame.rows() == [([1.0, 2.0, 3.0, 4.5],)]
    assert [reason.detail for _, reason in decoded.invalid] == [
        f"Expected 4 numbers, got {length} - at `image`" for length in (1, 0)
    ]
