"""Confluent's wire format: exact reasons for what is none, schemas that the registry does not know, recognition by `ganwatch init`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from monitor.encodings.recognition import recognise
from monitor.encodings.record_decoder import decoder_for, transcoder_for
from monitor.encodings.transcoding import UNKNOWN_S
from monitor.errors import ConfigError, InvalidRecord
from monitor.model.decode import Decoder
from monitor.model.features_toml import write_features_toml
from monitor.model.inference import infer_schema
from monitor.model.schema import Encoding, Schema
from monitor.settings import Settings
from tests import machines
from tests.encodings import at, avro_content, decoder_at, encoders, schema_of, wire
from tests.schema_registry import SchemaRegistryServer

ROW = {"type": "record", "name": "Row", "fields": [{"name": "v", "type": "double"}, {"name": "c", "type": "string"}]}
ROW_SCHEMA = Schema.from_mapping(
    {"name": "t", "features": [{"name": "v", "kind": "numeric"}], "encoding": {"format": "avro"}}, "tests"
)


@pytest.fixture
def registry() -> Iterator[SchemaRegistryServer]:
    with SchemaRegistryServer() as server:
        yield server


def test_every_bad_record_has_its_reason(registry: SchemaRegistryServer) -> None:
    first = registry.register("a", json.dumps(ROW))
    text = registry.register("b", '"string"')
    other = registry.register("c", "{}", "JSON")
    broken = registry.register("d", '{"type": "record"}')
    good = {"v": 1.5, "c": "x"}
    content = avro_content(ROW, good)
    infinite = avro_content(ROW, good | {"v": float("-inf")})
    ours = decoder_at(registry, ROW_SCHEMA)
    values = [
        None, b"", b'{"v": 1}', b"\0\0\0", b"\1" + wire(first, content)[1:], wire(99, content), wire(other, content),
        wire(broken, content), wire(first, content[:3]), wire(first, content + b"\0"), wire(first, infinite),
        wire(text, avro_content("string", "x")), wire(first, avro_content(ROW, good | {"c": "y" * 200_000})),
    ]  # fmt: skip
    decoded = ours.decode([*values, wire(first, content)])
    assert list(decoded.rows) == [len(values)]
    magic = "it does not begin with the magic byte 0 and a schema id of four bytes"
    assert [row for row, _ in decoded.invalid] == list(range(len(values)))
    told = [str(reason) for _, reason in decoded.invalid]
    assert told[:7] == [
        "empty: no value (null)",
        "empty: 0 bytes",
        f"wrong_encoding: 8 bytes from b'{{' on: {magic}",
        f"wrong_encoding: 3 bytes from b'\\x00' on: {magic}",
        f"wrong_encoding: {5 + len(content)} bytes from b'\\x01' on: {magic}",
        "unknown_schema: the schema registry has no schema 99",
        f"wrong_encoding: schema {other} is of type JSON, features.toml says avro",
    ]
    assert told[7].startswith(f"wrong_encoding: schema {broken}: is not a valid Avro schema: ")
    assert told[8].startswith("wrong_encoding: is no Avro record of its schema: ")
    assert told[9:] == [
        "wrong_encoding: is no Avro record of its schema: 1 bytes are left behind it",
        "wrong_type: Expected finite numbers, got -inf",
        "not_one_object: Expected `object`, got `str`",
        f"too_large: {len(values[-1] or b'')} bytes, max_record_bytes is 100000",
    ]


def test_an_unknown_schema_is_asked_for_again_after_a_while(registry: SchemaRegistryServer) -> None:
    now = [0.0]
    transcode = replace(transcoder_for("avro", at(registry)), clock=lambda: now[0])
    value = wire(1, avro_content("double", 1.5))
    for moment in (0.0, 1.0, UNKNOWN_S + 1):
        now[0] = moment
        with pytest.raises(InvalidRecord, match="unknown_schema"):
            transcode(value)
    assert len(registry.asked) == 1
    registry.register("late", '"double"')
    assert transcode(value) == b"1.5"
    assert len(registry.asked) == 2


def test_a_topics_encoding_is_recognised_by_its_schema_ids(registry: SchemaRegistryServer) -> None:
    records = machines.as_json(machines.readings(20, seed=3))
    with encoders(registry.url, "readings") as encode:
        written = {name: encode[name](records) for name in ("avro", "protobuf")}
    assert recognise(records, Settings.model_validate({}), "t") == (machines.SCHEMA.encoding, records)
    for name, values in written.items():
        encoding, documents = recognise([*values, None, b"{}"], at(registry), "t")
        assert encoding.format == name
        assert documents[-2:] == [None, None]
        assert json.loads(documents[0] or b"")["reading_id"] == "r0"
    with pytest.raises(
        ConfigError, match=r"topic 't': its records begin with a schema id \(1\).* set schema_registry_url"
    ):
        recognise(written["avro"], Settings.model_validate({}), "t")
    with pytest.raises(ConfigError, match="schema id 77, which the schema registry does not know"):
        recognise([wire(77, b"x")], at(registry), "t")


def test_a_recognised_encoding_is_written_into_the_schema_file(tmp_path: Path) -> None:
    inference = infer_schema(pl.DataFrame({"amount": [row * 7 % 17 * 1.7 for row in range(200)]}), "payments")
    schema = inference.schema.model_copy(update={"encoding": Encoding(format="avro")})
    path = tmp_path / "features.toml"
    path.write_text(write_features_toml(replace(inference, schema=schema), "topic"), encoding="utf-8")
    assert Schema.load(path) == schema
    assert "[encoding]" not in write_features_toml(inference, "topic")


@pytest.mark.parametrize(("encoding", "package"), [("avro", "fastavro"), ("protobuf", "google.protobuf")])
def test_a_missing_package_or_setting_is_named_with_its_remedy(
    registry: SchemaRegistryServer, monkeypatch: pytest.MonkeyPatch, encoding: str, package: str
) -> None:
    with pytest.raises(ConfigError, match="schema_registry_url is needed"):
        decoder_for(Decoder(schema_of(encoding), 1000), Settings.model_validate({}))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"needs the package {package}; .*`pip install 'ganwatch\[encodings\]'`"):
        decoder_at(registry, schema_of(encoding))
