"""Avro: what its types become, schemas that are built upon others, schemas that would be dangerous."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from monitor.encodings.record_decoder import transcoder_for
from monitor.model.schema import Schema
from tests.encodings import at, avro_content, decoder_at, schema_of, wire
from tests.schema_registry import SchemaRegistryServer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def registry() -> Iterator[SchemaRegistryServer]:
    with SchemaRegistryServer() as server:
        yield server


def test_a_schema_that_may_exhaust_stack_or_memory_is_refused(registry: SchemaRegistryServer) -> None:
    node = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
    endless = {"type": "record", "name": "E", "fields": [{"name": "many", "type": {"type": "array", "items": "null"}}]}
    ids = [registry.register("s", json.dumps(schema)) for schema in (node, endless)]
    values = [wire(ids[0], b"\2" * 99_000 + b"\0"), wire(ids[1], b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f\0")]
    decoded = decoder_at(registry, schema_of("avro")).decode(values)
    assert [str(reason) for _, reason in decoded.invalid] == [
        "wrong_encoding: schema 1: Node contains itself, which is not supported",
        "wrong_encoding: schema 2: an array's items take no bytes, which is not supported",
    ]


def test_avros_logical_types_have_a_documented_form_in_json(registry: SchemaRegistryServer) -> None:
    kinds: dict[str, tuple[Any, Any, Any]] = {
        "amount": ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, Decimal("12.50"), 12.5),
        "at": ({"type": "long", "logicalType": "timestamp-micros"}, NOW, "2026-03-01T12:00:00Z"),
        "on": ({"type": "int", "logicalType": "date"}, date(2026, 3, 1), "2026-03-01"),
        "who": ({"type": "string", "logicalType": "uuid"}, UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        "raw": ("bytes", b"\0\xff", "AP8="),
        "fixed": ({"type": "fixed", "name": "F", "size": 2}, b"\0\xff", "AP8="),
        "tags": ({"type": "map", "values": "int"}, {"a": 1}, {"a": 1}),
        "nothing": ("double", float("nan"), None),
    }
    fields = [{"name": name, "type": kind} for name, (kind, _, _) in kinds.items()]
    schema = {"type": "record", "name": "R", "fields": fields}
    value = wire(
        registry.register("r", json.dumps(schema)),
        avro_content(schema, {name: kind[1] for name, kind in kinds.items()}),
    )
    document = json.loads(transcoder_for("avro", at(registry))(value))
    assert document == {name: expected for name, (_, _, expected) in kinds.items()}


def test_an_avro_schema_may_be_built_upon_others(registry: SchemaRegistryServer) -> None:
    point = {"type": "record", "name": "geo.Point", "fields": [{"name": "x", "type": "double"}]}
    line = {"type": "record", "name": "geo.Line", "fields": [{"name": "to", "type": "geo.Point"}]}
    whole = {
        "type": "record",
        "name": "Shape",
        "fields": [{"name": "line", "type": "geo.Line"}, {"name": "from", "type": "geo.Point"}],
    }
    registry.register("point", json.dumps(point))
    to_point = {"name": "geo.Point", "subject": "point", "version": 1}
    registry.register("line", json.dumps(line), references=[to_point])
    to_line = {"name": "geo.Line", "subject": "line", "version": 1}
    schema_id = registry.register("shape", json.dumps(whole), references=[to_line, to_point])
    transcode = transcoder_for("avro", at(registry))
    content = avro_content(
        {"type": "record", "name": "S", "fields": [{"name": n, "type": "double"} for n in "ab"]}, {"a": 1, "b": 2}
    )
    assert json.loads(transcode(wire(schema_id, content))) == {"line": {"to": {"x": 1.0}}, "from": {"x": 2.0}}


def test_arrays_of_numbers_nested_or_flat_are_read_as_array_features(registry: SchemaRegistryServer) -> None:
    row = {"type": "array", "items": "float"}
    fields = [{"name": "image", "type": {"type": "array", "items": row}}, {"name": "wave", "type": ["null", row]}]
    written = {"type": "record", "name": "Scan", "fields": fields}
    schema_id = registry.register("scans", json.dumps(written))
    features = [
        {"name": "image", "kind": "array", "shape": [2, 2]},
        {"name": "wave", "kind": "array", "shape": [3]},
    ]
    schema = Schema.from_mapping({"name": "t", "features": features, "encoding": {"format": "avro"}}, "tests")
    image, nan = [[1.0, 2.0], [3.0, 4.5]], float("nan")
    records = [
        {"image": image, "wave": None},
        {"image": image, "wave": [1.0, 2.0]},
        {"image": [[1.0, nan], [3.0, 4.0]], "wave": None},
        {"image": [[1.0, 2.0], [3.0, float("inf")]], "wave": None},
        {"image": image, "wave": [5.0, 6.0, 7.0]},
    ]
    values = [wire(schema_id, avro_content(written, record)) for record in records]
    decoded = decoder_at(registry, schema).decode(values)
    flat = [1.0, 2.0, 3.0, 4.5]
    assert decoded.frame.rows() == [(flat, None), (flat, [5.0, 6.0, 7.0])]
    assert [(row, str(reason)) for row, reason in decoded.invalid] == [
        (1, "wrong_type: Expected 3 numbers, got 2 - at `wave`"),
        (2, "wrong_type: Expected `float`, got `null` - at `image[0,1]`"),
        (3, "wrong_type: Expected finite numbers, got inf"),
    ]
