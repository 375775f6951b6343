"""`ganwatch init --from TOPIC` looks at the last records of a topic and writes a schema that the daemon can load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from monitor.model.schema import Schema
from tests import machines
from tests.conftest import Kafka
from tests.kafka_broker import free_port
from tests.topics import publish

pytestmark = pytest.mark.broker


def init(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GANWATCH_")}
    command = [sys.executable, "-m", "monitor.cli", "init", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=60)


def test_the_schema_of_a_topic_is_that_of_its_valid_records(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.new_topic("readings", 2)
    good = machines.as_json(machines.readings(600, seed=60))
    bad = [b"not json", None, b"[1, 2]", b"\xff", b""] * 4
    publish(kafka.bootstrap, topic, [*good[:300], *bad, *good[300:]], partition=None)
    done = init(tmp_path, "--from", topic, "--bootstrap-servers", kafka.bootstrap)
    assert done.returncode == 0, done.stderr
    schema = Schema.load(tmp_path / "features.toml")
    assert schema.name == topic
    assert {feature.name: feature.kind for feature in schema.features} == {
        "load": "numeric",
        "motor.current_a": "numeric",
        "motor.temperature_c": "numeric",
        "pieces": "numeric",
        "mode": "categorical",
        "cooling": "boolean",
        "machine": "categorical",
    }
    assert schema.id == "reading_id"
    text = (tmp_path / "features.toml").read_text()
    assert "20 of 620 records" in text


def test_only_the_last_records_are_looked_at(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.new_topic("readings")
    old = [b'{"old_field": %d.5}' % (number % 7) for number in range(100)]
    new = [b'{"new_field": %d.5}' % (number % 7) for number in range(100)]
    publish(kafka.bootstrap, topic, [*old, *new])
    done = init(tmp_path, "--from", topic, "--records", "100", "--bootstrap-servers", kafka.bootstrap)
    assert done.returncode == 0, done.stderr
    assert Schema.load(tmp_path / "features.toml").feature_names == ("new_field",)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [([], "holds no records"), ([b"not json"] * 5, "none of its last 5 records is a JSON object")],
)
def test_a_topic_without_a_valid_record_is_one_clear_line(
    kafka: Kafka, tmp_path: Path, values: list[bytes], complaint: str
) -> None:
    topic = kafka.new_topic("readings")
    publish(kafka.bootstrap, topic, values)
    done = init(tmp_path, "--from", topic, "--bootstrap-servers", kafka.bootstrap)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert complaint in done.stderr
    assert not (tmp_path / "features.toml").exists()


def test_a_missing_topic_is_one_clear_line(kafka: Kafka, tmp_path: Path) -> None:
    done = init(tmp_path, "--from", "absent", "--bootstrap-servers", kafka.bootstrap)
    assert done.returncode == 5
    assert done.stderr.startswith(f"ganwatch: Kafka at {kafka.bootstrap}: ")
    assert "no topic 'absent'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_missing_broker_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "ganwatch.toml").write_text("broker_timeout_s = 1\n")
    address = f"127.0.0.1:{free_port()}"
    done = init(tmp_path, "--from", "readings", "--bootstrap-servers", address, "--config", "ganwatch.toml")
    assert done.returncode == 5
    assert f"{address} cannot be reached" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
