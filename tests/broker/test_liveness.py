"""A call that never returns ends the daemon, so that its supervisor restarts it; an outage does not, however long it takes."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.model.bundle import Bundle
from tests.broker.conftest import Stream
from tests.broker.test_delivery import expected_alerts
from tests.broker.test_outage import outage, waits_for
from tests.conftest import Kafka
from tests.kafka_broker import KafkaBroker
from tests.machines import as_json, readings
from tests.topics import committed, publish, read_alerts

pytestmark = pytest.mark.broker

# Loaded by Python itself before the daemon: the client's poll hangs from the moment when the file is there.
HANGING_CLIENT = """
import pathlib, threading
from kafka import KafkaConsumer
poll = KafkaConsumer.poll
def hanging_poll(consumer, *arguments, **named):
    if pathlib.Path("hang").exists():
        threading.Event().wait()
    return poll(consumer, *arguments, **named)
KafkaConsumer.poll = hanging_poll
"""


def test_a_call_that_never_returns_ends_the_daemon_and_a_restart_goes_on(
    stream: Stream, machines_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = as_json(readings(2000, seed=70, anomalies=40))
    publish(stream.kafka.bootstrap, stream.features, records[:1000])
    (stream.folder / "sitecustomize.py").write_text(HANGING_CLIENT)
    monkeypatch.setenv("PYTHONPATH", f"{stream.folder}:{Path(__file__).parents[2]}")
    daemon = stream.daemon(stuck_exit_s=3, shutdown_timeout_s=1, group_instance_id="one").start()
    daemon.wait_until_done(1000)
    (stream.folder / "hang").touch()
    hung_at = time.monotonic()
    publish(stream.kafka.bootstrap, stream.features, records[1000:])
    assert daemon.wait(30) == 6
    assert time.monotonic() - hung_at > 3
    assert "hanging_poll" in daemon.output()
    assert daemon.output().strip().splitlines()[-1].startswith("ganwatch: the loop has not turned for ")
    (stream.folder / "hang").unlink()
    with stream.daemon(group_instance_id="one") as again:
        again.wait_until(
            lambda: committed(stream.kafka.bootstrap, stream.group, stream.features)[0] == 2000, "done with the rest"
        )
    alerts = read_alerts(stream.kafka.bootstrap, stream.alerts)
    found = {alert["record"]["offset"]: (alert["raw_score"], alert["p_value"]) for alert in alerts}
    assert found == expected_alerts(machines_bundle, stream.features, records, list(range(2000)))


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker that this module stops."""
    quick = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "500"}
    with KafkaBroker(tmp_path_factory.mktemp("mortal"), quick) as broker:
        yield broker


def test_an_outage_longer_than_the_loop_may_stand_still_ends_nothing(
    mortal: KafkaBroker, machines_folder: Path
) -> None:
    kafka = Kafka(mortal.bootstrap)
    features, alerts, dead_letters = (kafka.new_topic(stem) for stem in ("features", "alerts", "dead-letters"))
    stream = Stream(kafka, machines_folder, features, alerts, dead_letters, f"group-{uuid.uuid4().hex[:8]}")
    with stream.daemon(stuck_exit_s=4, shutdown_timeout_s=2) as daemon:
        daemon.wait_until_ready()
        with outage(mortal, "silent"):
            daemon.wait_until(lambda: waits_for(daemon, "broker"), "waiting for the broker", timeout_s=15)
            until = (
                time.monotonic() + 12
            )  # by then it waits for longer between two attempts than the loop may stand still
            while time.monotonic() < until:
                assert daemon.get("/healthz")[0] == 200, daemon.output()
                time.sleep(0.5)
        daemon.wait_until(lambda: daemon.get("/readyz")[0] == 200, "ready again", timeout_s=20)
        assert daemon.stop()[0] == 0


def test_a_daemon_that_slept_as_a_whole_goes_on_where_it_was(stream: Stream) -> None:
    records = as_json(readings(400, seed=71))
    publish(stream.kafka.bootstrap, stream.features, records[:200])
    with stream.daemon(stuck_exit_s=3, shutdown_timeout_s=1) as daemon:
        daemon.wait_until_done(200)
        daemon.signal(signal.SIGSTOP)
        time.sleep(5)
        daemon.signal(signal.SIGCONT)
        publish(stream.kafka.bootstrap, stream.features, records[200:])
        daemon.wait_until_done(400)
