"""Avro, Protobuf and packed float32 through the real daemon: the same alerts as an offline run of the same records as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest

from monitor.model.bundle import Bundle
from monitor.model.calibration import threshold_of, tie_breakers
from monitor.model.decode import Decoder
from monitor.model.detection import detect
from monitor.model.schema import Schema
from monitor.settings import Settings
from tests import machines
from tests.broker.conftest import Stream
from tests.encodings import as_single_precision, encoders, schema_of, write_features
from tests.kafka_broker import free_port
from tests.schema_registry import SchemaRegistryServer
from tests.topics import committed, headers_of, publish, read_alerts, read_all
from training.history import read_history

pytestmark = pytest.mark.broker


@pytest.fixture
def registry() -> Iterator[SchemaRegistryServer]:
    with SchemaRegistryServer() as server:
        yield server


def readings(n: int, *, anomalies: int = 0) -> list[bytes]:
    """JSON records whose numbers every encoding can hold."""
    return machines.as_json(as_single_precision(machines.readings(n, seed=2, anomalies=anomalies)))


def written(registry_url: str, topic: str, encoding: str, records: list[bytes]) -> list[bytes]:
    with encoders(registry_url, topic) as encode:
        return encode[encoding](records)


def offline(bundle: Bundle, topic: str, records: list[bytes], rate: float = 0.01) -> dict[int, float]:
    """Offset → p-value of the records that must be flagged, from their JSON."""
    frame = bundle.decoder().decode(records).frame
    found = detect(bundle, frame, tie_breakers(bundle.sha256, topic, 0, np.arange(len(records))))
    rows = np.flatnonzero(found.score >= threshold_of(rate)).tolist()
    return {row: float(found.p_value[row]) for row in rows}


@pytest.mark.parametrize("encoding", ["avro", "protobuf", "float32"])
def test_alerts_are_those_of_the_same_records_as_json(
    stream: Stream, machines_bundle: Bundle, registry: SchemaRegistryServer, encoding: str
) -> None:
    records = readings(2000, anomalies=60)
    values = written(registry.url, stream.features, encoding, records)
    bad = {b"{}": "wrong_encoding", b"": "empty", values[0] + b"?": "wrong_encoding"}
    write_features(stream.folder, encoding)
    publish(stream.kafka.bootstrap, stream.features, [*values, *bad], key=b"press-7")
    with stream.daemon(schema_registry_url=registry.url) as daemon:
        daemon.wait_until_done(len(values) + len(bad))
        assert daemon.metrics()["ganwatch_records_scored_total"] == len(values)
    alerts = read_alerts(stream.kafka.bootstrap, stream.alerts)
    expected = offline(machines_bundle, stream.features, records)
    assert {alert["record"]["offset"]: alert["p_value"] for alert in alerts} == expected
    assert len(expected) > 50
    for alert in alerts:
        offset = alert["record"]["offset"]
        content = json.loads(records[offset])
        assert {name: alert["payload"][name] for name in ("motor", "pieces", "mode", "cooling")} == {
            name: content[name] for name in ("motor", "pieces", "mode", "cooling")
        }
        assert alert["record"]["id"] == (None if encoding == "float32" else f"r{offset}")
        assert alert["record"]["key"] == "press-7"
    letters = read_all(stream.kafka.bootstrap, stream.dead_letters)
    assert [(letter.value, headers_of(letter)["reason"]) for letter in letters] == [*bad.items()]


def test_while_the_schema_registry_is_away_the_daemon_waits_and_nothing_is_lost(
    stream: Stream, machines_bundle: Bundle
) -> None:
    port = free_port()
    records = readings(300, anomalies=20)
    with SchemaRegistryServer(port) as registry:
        values = written(registry.url, stream.features, "avro", records)
        schema = registry.answer("GET", "/schemas/ids/1", {})[1]["schema"]
    write_features(stream.folder, "avro")
    publish(stream.kafka.bootstrap, stream.features, values)
    settings = {"schema_registry_url": f"http://127.0.0.1:{port}"}
    waiting = 'ganwatch_waiting{reason="schema_registry"}'
    with stream.daemon(**settings) as daemon:
        daemon.wait_until(lambda: daemon.metrics().get(waiting) == 1.0, "waiting for the schema registry")
        assert daemon.get("/readyz") == (503, "waiting for schema_registry\n")
        assert daemon.get("/healthz")[0] == 200
        code, seconds = daemon.stop()
        assert code == 0, daemon.output()
        assert seconds < 15  # shutdown_timeout_s is 8
    assert committed(stream.kafka.bootstrap, stream.group, stream.features) == {0: None}
    with stream.daemon(**settings) as daemon:
        daemon.wait_until(lambda: daemon.metrics().get(waiting) == 1.0, "waiting for the schema registry")
        registry = SchemaRegistryServer(port)
        registry.register(f"{stream.features}-value", schema)  # before it answers; it keeps nothing on disk
        with registry:
            daemon.wait_until_done(len(values))
            assert daemon.metrics()[waiting] == 0.0
            assert [path for path in registry.asked if path.startswith("/schemas/ids/")] == ["/schemas/ids/1"]
    flagged = {
        alert["record"]["offset"]: alert["p_value"] for alert in read_alerts(stream.kafka.bootstrap, stream.alerts)
    }
    assert flagged == offline(machines_bundle, stream.features, records)
    assert read_all(stream.kafka.bootstrap, stream.dead_letters) == []


@pytest.mark.parametrize("encoding", ["avro", "protobuf", "float32"])
def test_training_reads_the_same_rows_and_times_as_from_json(
    stream: Stream, registry: SchemaRegistryServer, encoding: str
) -> None:
    records = readings(200)
    publish(stream.kafka.bootstrap, stream.features, [*written(registry.url, stream.features, encoding, records), b"?"])
    settings = Settings.model_validate(
        {"bootstrap_servers": stream.kafka.bootstrap, "schema_registry_url": registry.url}
    )
    history = read_history(stream.features, schema_of(encoding), settings, max_rows=1000)
    assert history.frame.equals(Decoder(machines.SCHEMA, 10_000).decode(records).frame)
    assert history.invalid == {"wrong_encoding": 1}
    assert history.times is not None
    event_times = pl.Series(history.times) == 1772348400.0  # 2026-03-01T08:00:00+01:00
    assert event_times.all() if encoding != "float32" else (pl.Series(history.times) > time.time() - 300).all()


def ganwatch(stream: Stream, registry_url: str, *arguments: str) -> str:
    """Runs a command that must succeed; returns what it printed."""
    command = [sys.executable, "-m", "monitor.cli", *arguments, "--config", "stream.toml"]
    lines = [f"{name} = {json.dumps(value)}" for name, value in stream.settings().items()]
    (stream.folder / "stream.toml").write_text("\n".join([*lines, f'schema_registry_url = "{registry_url}"\n']))
    done = subprocess.run(command, cwd=stream.folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("encoding", ["avro", "protobuf"])
def test_the_commands_around_a_topic_know_its_encoding(
    stream: Stream, machines_bundle: Bundle, registry: SchemaRegistryServer, encoding: str
) -> None:
    records = readings(300, anomalies=20)
    publish(stream.kafka.bootstrap, stream.features, written(registry.url, stream.features, encoding, records))
    ganwatch(stream, registry.url, "init", "--from", stream.features, "--out", "inferred.toml")
    inferred = Schema.load(stream.folder / "inferred.toml")
    assert inferred.encoding.format == encoding
    assert set(machines.SCHEMA.feature_names) <= set(inferred.feature_names)
    write_features(stream.folder, encoding)
    ganwatch(stream, registry.url, "replay", "--from", "2020-01-01", "--out", "alerts.jsonl")
    alerts = [json.loads(line) for line in (stream.folder / "alerts.jsonl").read_text().splitlines()]
    assert {alert["record"]["offset"]: alert["p_value"] for alert in alerts} == offline(
        machines_bundle, stream.features, records
    )
    told = {
        trial["what"]: trial["detail"]
        for trial in json.loads(ganwatch(stream, registry.url, "check", "--json"))["trials"]
    }
    assert told["records"] == "100 of the last 100 fit the schema"
