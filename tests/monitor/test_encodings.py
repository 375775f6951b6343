"""Records are judged the same however they are written: JSON, Avro, Protobuf, packed float32.

Avro and Protobuf are written by confluent-kafka's serialisers through its own client, which shows that `tests.schema_registry`
behaves like a real registry.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.errors import ConfigError
from monitor.model.bundle import Bundle
from monitor.model.decode import Decoder
from monitor.model.schema import Schema
from monitor.settings import Settings
from monitor.stream.broker import Cluster
from monitor.stream.pipeline import Pipeline
from tests import machines
from tests.encodings import MODES, as_single_precision, at, avro_content, decoder_at, encoders, schema_of, wire
from tests.monitor.raw_records import KINDS
from tests.monitor.records import batch_of, segment
from tests.schema_registry import SchemaRegistryServer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def registry() -> Iterator[SchemaRegistryServer]:
    with SchemaRegistryServer() as server:
        yield server


@pytest.mark.parametrize("encoding", ["avro", "protobuf"])
def test_what_confluents_serialisers_write_is_read_as_the_same_records(
    registry: SchemaRegistryServer, encoding: str
) -> None:
    records = machines.as_json(machines.readings(300, seed=3))
    with encoders(registry.url, "readings") as encode:
        values = encode[encoding](records)
    registry.asked.clear()
    decoded = decoder_at(registry, schema_of(encoding)).decode(values)
    assert decoded.frame.equals(Decoder(machines.SCHEMA, 100_000).decode(records).frame)
    assert list(decoded.rows) == list(range(300))
    assert len(registry.asked) == 1, "a schema is asked for once"
    document = json.loads(decoded.documents[5] or b"")
    expected = json.loads(records[5])
    assert datetime.fromisoformat(document.pop("read_at")) == datetime.fromisoformat(expected.pop("read_at"))
    assert document == expected


@pytest.mark.parametrize("encoding", ["json", "avro", "protobuf", "float32"])
def test_the_scores_and_alerts_of_a_record_do_not_depend_on_how_it_is_written(
    registry: SchemaRegistryServer, machines_bundle: Bundle, encoding: str
) -> None:
    records = machines.as_json(as_single_precision(machines.readings(200, seed=4, anomalies=20)))
    with encoders(registry.url, "readings") as encode:
        values: Sequence[bytes | None] = encode[encoding](records) if encoding != "json" else records
    bundle = replace(machines_bundle, schema=schema_of(encoding))
    pipeline = Pipeline(bundle, at(registry, threshold=40.0), Cluster("c", "t"), now=lambda: NOW)
    judged = pipeline.judge(batch_of(segment(values)))
    plain = Pipeline(machines_bundle, at(registry, threshold=40.0), Cluster("c", "t"), now=lambda: NOW)
    expected = plain.judge(batch_of(segment(records)))
    assert (judged.scores == expected.scores).all()
    assert judged.n_flagged == expected.n_flagged > 5
    for ours, theirs in zip(judged.messages, expected.messages, strict=True):
        alert, plain_alert = json.loads(ours.value), json.loads(theirs.value)
        features = {name: plain_alert["payload"][name] for name in ("motor", "pieces", "mode", "cooling")}
        assert {name: alert["payload"][name] for name in features} == features
        for changes in ("payload", "record"):
            del alert[changes], plain_alert[changes]
        assert alert == plain_alert


def test_a_daemon_that_lacks_the_registrys_address_does_not_even_start(machines_bundle: Bundle) -> None:
    bundle = replace(machines_bundle, schema=schema_of("avro"))
    with pytest.raises(ConfigError, match="schema_registry_url is needed"):
        Pipeline(bundle, Settings.model_validate({}), Cluster("c", "t"))


NUMBERS = st.floats(allow_infinity=False, allow_nan=False) | st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "v": NUMBERS | st.none(),
    "c": TEXTS | st.booleans() | st.integers(-(2**40), 2**40) | st.none(),
    "b": st.booleans() | st.none(),
    "n": st.none() | st.fixed_dictionaries({"x": NUMBERS, "k": TEXTS | st.booleans()}),
    "extra": st.lists(TEXTS, max_size=3),
}
ANYTHING = {
    "type": "record",
    "name": "Anything",
    "fields": [
        {"name": "v", "type": ["null", "double", "long"]},
        {"name": "c", "type": ["null", "string", "boolean", "long"]},
        {"name": "b", "type": ["null", "boolean"]},
        {
            "name": "n",
            "type": [
                "null",
                {
                    "type": "record",
                    "name": "N",
                    "fields": [
                        {"name": "x", "type": ["double", "long"]},
                        {"name": "k", "type": ["string", "boolean"]},
                    ],
                },
            ],
        },
        {"name": "extra", "type": {"type": "array", "items": "string"}},
    ],
}
ANY_FEATURES = [{"name": name, "kind": kind} for name, kind in KINDS.items()]
ANY_SCHEMA = Schema.from_mapping({"name": "t", "features": ANY_FEATURES, "encoding": {"format": "avro"}}, "tests")


def tagged(value: Any) -> Any:
    """Numbers with the branch of the union that they are of, which fastavro does not choose as JSON would."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return ("long", value) if isinstance(value, int) else ("double", value)


def test_any_avro_record_is_judged_like_the_same_record_as_json() -> None:
    with SchemaRegistryServer() as registry:
        schema_id = registry.register("any", json.dumps(ANYTHING))
        ours = decoder_at(registry, ANY_SCHEMA)

        @settings(deadline=None, max_examples=100)
        @given(st.lists(st.fixed_dictionaries(FIELDS), max_size=6))
        def check(documents: list[dict[str, Any]]) -> None:
            values = []
            for document in documents:
                record = {name: tagged(value) for name, value in document.items()}
                record["n"] = document["n"] and {name: tagged(value) for name, value in document["n"].items()}
                values.append(wire(schema_id, avro_content(ANYTHING, record)))
            decoded = ours.decode(values)
            expected = Decoder(ANY_SCHEMA, 100_000).decode([json.dumps(document).encode() for document in documents])
            assert decoded.frame.equals(expected.frame)
            assert list(decoded.rows) == list(expected.rows)

        check()


FINITE = st.floats(allow_infinity=False, allow_nan=False)
READINGS = st.fixed_dictionaries(
    {
        "reading_id": TEXTS,
        "machine": TEXTS,
        "read_at": st.just("2026-03-01T08:00:00+01:00"),
        "motor": st.fixed_dictionaries({"current_a": FINITE, "temperature_c": FINITE}),
        "pieces": st.integers(-(2**31), 2**31 - 1),
        "mode": st.sampled_from(MODES),
        "cooling": st.booleans(),
    },
    optional={"load": FINITE},
)


@pytest.mark.parametrize("encoding", ["avro", "protobuf"])
def test_any_reading_is_judged_like_the_same_reading_as_json(encoding: str) -> None:
    with SchemaRegistryServer() as registry, encoders(registry.url, "readings") as encode:
        ours = decoder_at(registry, schema_of(encoding))

        @settings(deadline=None, max_examples=100)
        @given(st.lists(READINGS, max_size=6))
        def check(readings: list[dict[str, Any]]) -> None:
            records = [json.dumps(reading).encode() for reading in readings]
            decoded = ours.decode(encode[encoding](records))
            assert decoded.frame.equals(Decoder(machines.SCHEMA, 100_000).decode(records).frame)
            assert list(decoded.rows) == list(range(len(records)))

        check()


@pytest.mark.parametrize("encoding", ["avro", "protobuf"])
def test_whatever_bytes_come_a_record_is_read_or_refused_and_its_neighbours_are_read(encoding: str) -> None:
    with SchemaRegistryServer() as registry:
        with encoders(registry.url, "readings") as encode:
            good = encode[encoding](machines.as_json(machines.readings(1, seed=1)))[0]
        ours = decoder_at(registry, schema_of(encoding))
        damaged = st.builds(
            lambda cut, inserted, length: good[:cut] + inserted + good[cut + length :],
            st.integers(5, len(good)), st.binary(max_size=12), st.integers(0, 12),
        )  # fmt: skip

        @settings(deadline=None, max_examples=300)
        @given(st.lists(damaged | st.binary(max_size=40), max_size=5))
        def check(values: list[bytes]) -> None:
            decoded = ours.decode([*values, good])
            assert len(values) in decoded.rows
            assert sorted([*decoded.rows, *(row for row, _ in decoded.invalid)]) == list(range(len(values) + 1))

        check()
