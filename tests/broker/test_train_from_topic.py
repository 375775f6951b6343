"""Training rows from a topic and its time range: the same model as from a file of the same records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import machines
from tests.conftest import Kafka
from tests.topics import publish

pytestmark = [pytest.mark.broker, pytest.mark.training]


def test_a_topic_is_learned_from_and_its_bad_records_are_reported(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.new_topic("history", 2)
    records = machines.as_json(machines.readings(1000, seed=40))
    publish(kafka.bootstrap, topic, [*records, b"{", b'{"pieces": "many"}'], partition=None)
    (tmp_path / "features.toml").write_text(machines.FEATURES_TOML)
    small = ["--steps", "100", "--option", "encoder_widths=[16]", "--option", "generator_widths=[16]"]
    command = [sys.executable, "-m", "monitor.cli", "train", "--bootstrap-servers", kafka.bootstrap, "--json", *small]
    done = subprocess.run(
        [*command, "--data", f"{topic}@2020-01-01T00:00:00Z.."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    assert data["rows"] == 1000
    assert data["invalid_records"] == {"not_json": 1, "wrong_type": 1}
    assert data["split"] == "by time"
    nothing = subprocess.run(
        [*command, "--data", f"{topic}@..2020-01-01T00:00:00Z"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert nothing.returncode == 2
    assert "holds no records in this range" in nothing.stderr
