"""What keeps the daemon from starting is one clear line that names what and where, with the exit code of its kind."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from tests import machines
from tests.broker.conftest import Stream
from tests.daemon import Daemon
from tests.kafka_broker import free_port
from tests.topics import publish

pytestmark = pytest.mark.broker

TIMEOUT_S = 1.5
VERSION = next((machines.REGISTRY / "models" / "machines").iterdir()).name


def refusal(daemon: Daemon) -> tuple[int, str]:
    """Exit code and last line of a daemon that must not start; there is no other line that is not a log event."""
    daemon.settings["broker_timeout_s"] = TIMEOUT_S
    code = daemon.start().wait(TIMEOUT_S + 10)
    *events, line = daemon.output().strip().splitlines()
    assert [event for event in events if not event.startswith('{"time"')] == []
    return code, line


@pytest.fixture
def own_registry(stream: Stream) -> Path:
    """A copy of the registry that a test may damage; returns the bundle's folder."""
    registry = stream.folder / "registry"
    registry.unlink()
    shutil.copytree(machines.REGISTRY, registry)
    return registry / "models" / "machines" / VERSION


def test_a_broker_that_nobody_runs(stream: Stream) -> None:
    address = f"127.0.0.1:{free_port()}"
    code, line = refusal(stream.daemon(bootstrap_servers=address))
    assert code == 5
    assert line == (
        f"ganwatch: Kafka at {address}: connecting: no connection within broker_timeout_s = 1.5 seconds: {address} cannot be "
        "reached (Connection refused); check bootstrap_servers and that the broker is up"
    )


def test_a_host_that_cannot_be_resolved(stream: Stream) -> None:
    code, line = refusal(stream.daemon(bootstrap_servers="kafka.invalid:9092"))
    assert code == 5
    assert line.startswith("ganwatch: Kafka at kafka.invalid:9092: connecting: no connection within")
    assert "kafka.invalid:9092 cannot be resolved" in line


def test_a_server_that_is_not_kafka(stream: Stream) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        code, line = refusal(stream.daemon(bootstrap_servers=address))
    assert code == 5
    assert f"{address} accepts connections, but does not answer as Kafka" in line


def test_every_server_of_several_is_named_with_its_own_reason(stream: Stream) -> None:
    port = free_port()
    code, line = refusal(stream.daemon(bootstrap_servers=f"kafka.invalid:9092,127.0.0.1:{port}"))
    assert code == 5
    assert "kafka.invalid:9092 cannot be resolved" in line
    assert f"127.0.0.1:{port} cannot be reached" in line


@pytest.mark.parametrize("servers", ["kafka:port", "kafka:9092,"])
def test_servers_that_are_no_addresses(stream: Stream, servers: str) -> None:
    code, line = refusal(stream.daemon(bootstrap_servers=servers))
    assert code == 2
    assert line.startswith("ganwatch: bootstrap_servers: expects host:port, comma-separated, got ")


@pytest.mark.parametrize("role", ["features_topic", "alerts_topic", "dead_letters_topic"])
def test_a_missing_topic(stream: Stream, role: str) -> None:
    name = f"absent-{stream.group}"
    code, line = refusal(stream.daemon(**{role: name}))
    assert code == 5
    assert line == (
        f"ganwatch: Kafka at {stream.kafka.bootstrap}: no topic '{name}'; create it, or start with --create-topics"
    )


def test_create_topics_makes_all_that_are_missing(stream: Stream) -> None:
    names = {f"{role}_topic": f"{role}-new-{stream.group}" for role in ("features", "alerts", "dead_letters")}
    with stream.daemon(**names, create_topics="true", new_topic_partitions=3) as daemon:
        daemon.wait_until_ready()
        records = machines.as_json(machines.readings(20, seed=30, anomalies=2))
        publish(stream.kafka.bootstrap, names["features_topic"], records, partition=2)
        daemon.wait_until_done(20)
        assert daemon.output().count("topic_created") == 3


def test_a_schema_that_the_model_was_not_trained_for(stream: Stream) -> None:
    changed = machines.FEATURES_TOML.replace(
        '{ name = "load", kind = "numeric" }', '{ name = "load_kw", kind = "numeric" }'
    )
    (stream.folder / "features.toml").write_text(changed)
    code, line = refusal(stream.daemon())
    assert code == 4
    assert "was trained for another schema: feature 'load_kw' is not in the bundle" in line
    assert VERSION in line


def test_a_feature_of_another_kind(stream: Stream) -> None:
    changed = machines.FEATURES_TOML.replace(
        'name = "cooling", kind = "boolean"', 'name = "cooling", kind = "categorical"'
    )
    (stream.folder / "features.toml").write_text(changed)
    code, line = refusal(stream.daemon())
    assert code == 4
    assert "was trained for another schema: feature 'cooling' has another kind" in line


@pytest.mark.parametrize("name", ["scorer.tflite", "manifest.json"])
def test_a_damaged_bundle(stream: Stream, own_registry: Path, name: str) -> None:
    damaged = own_registry / name
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    code, line = refusal(stream.daemon())
    assert code == 4
    assert name in line
    assert VERSION in line


def test_a_file_that_is_missing_from_the_bundle(stream: Stream, own_registry: Path) -> None:
    (own_registry / "scorer.tflite").unlink()
    code, line = refusal(stream.daemon())
    assert code == 4
    assert "scorer.tflite" in line


def test_a_registry_without_a_champion(stream: Stream, own_registry: Path) -> None:
    shutil.rmtree(stream.folder / "registry" / "aliases")
    code, line = refusal(stream.daemon())
    assert code == 4
    assert "machines" in line
    assert "champion" in line


def test_a_version_that_does_not_exist(stream: Stream) -> None:
    code, line = refusal(stream.daemon(model_version="20200101T000000Z-00000000"))
    assert code == 4
    assert "20200101T000000Z-00000000" in line


def test_a_port_that_is_taken(stream: Stream) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, line = refusal(stream.daemon(http_port=port))
    assert code == 2
    assert line == (
        f"ganwatch: http_host/http_port 127.0.0.1:{port}: cannot listen there: Address already in use; "
        "choose another http_port (0 takes a free one)"
    )


def test_an_unknown_setting(stream: Stream) -> None:
    code, line = refusal(stream.daemon(max_row=5))
    assert code == 2
    assert line == "ganwatch: settings: unknown key 'max_row' (from command line: max_row)"


def test_all_wrong_settings_are_named_at_once(stream: Stream) -> None:
    code, line = refusal(stream.daemon(max_rows=0, target_alert_rate=2, log_level="loud"))
    assert code == 2
    for name in ("max_rows", "target_alert_rate", "log_level"):
        assert name in line


def test_no_schema_at_all(stream: Stream) -> None:
    (stream.folder / "features.toml").unlink()
    code, line = refusal(stream.daemon())
    assert code == 2
    assert line.startswith("ganwatch: features.toml: no such file; ")
