"""A broker that goes away and an alert topic that takes nothing: the daemon waits, commits nothing unacknowledged, goes on."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitor.model.bundle import Bundle
from tests.broker.conftest import Stream
from tests.broker.test_delivery import expected_alerts
from tests.conftest import Kafka
from tests.daemon import Daemon, done_records
from tests.kafka_broker import KafkaBroker
from tests.machines import as_json, readings
from tests.topics import committed, publish, read_alerts, read_all

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker that these tests stop, each of which leaves it running, and that can forbid to write to a topic."""
    rules = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
        # A killed broker may register again only after this; the default of 9 s would make each outage longer.
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "500",
    }
    with KafkaBroker(tmp_path_factory.mktemp("mortal"), rules) as broker:
        yield broker


@pytest.fixture
def stream(mortal: KafkaBroker, machines_folder: Path) -> Stream:
    """A stream on that broker."""
    kafka = Kafka(mortal.bootstrap)
    features, alerts, dead_letters = (kafka.new_topic(stem) for stem in ("features", "alerts", "dead-letters"))
    return Stream(kafka, machines_folder, features, alerts, dead_letters, f"group-{uuid.uuid4().hex[:8]}")


def waits_for(daemon: Daemon, reason: str) -> bool:
    return daemon.metrics().get(f'ganwatch_waiting{{reason="{reason}"}}') == 1


def wait_until_under_way(daemon: Daemon, records: int) -> None:
    daemon.wait_until(lambda: done_records(daemon.metrics()) >= records, f"at {records} records", pause_s=0.01)


def assert_nothing_lost(stream: Stream, bundle: Bundle, records: list[bytes]) -> None:
    """Alerts equal an offline run; one that was sent twice has the same id and says the same."""
    alerts = read_alerts(stream.kafka.bootstrap, stream.alerts)
    found = {alert["record"]["offset"]: (alert["raw_score"], alert["p_value"]) for alert in alerts}
    assert found == expected_alerts(bundle, stream.features, records, list(range(len(records))))
    assert len({(alert["id"], alert["record"]["offset"], alert["raw_score"]) for alert in alerts}) == len(found)
    assert len({alert["id"] for alert in alerts}) == len(found)


def test_an_outage_in_mid_stream_is_waited_out_and_nothing_is_lost(
    mortal: KafkaBroker, stream: Stream, machines_bundle: Bundle
) -> None:
    records = as_json(readings(40_000, seed=40, anomalies=400))
    publish(stream.kafka.bootstrap, stream.features, records[:20_000])
    with stream.daemon(max_rows=200) as daemon:
        wait_until_under_way(daemon, 2000)
        mortal.stop(signal.SIGKILL)
        daemon.wait_until(lambda: waits_for(daemon, "broker"), "waiting for the broker", timeout_s=15)
        before, started = daemon.metrics(), time.monotonic()
        while time.monotonic() < started + 5:
            assert daemon.get("/healthz")[0] == 200
            status, body = daemon.get("/readyz")
            assert status == 503
            assert body.startswith("waiting for ")
            assert "broker" in body
            assert daemon.metrics()["ganwatch_ready"] == 0
            time.sleep(0.5)
        cpu_s = daemon.metrics()["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]
        assert cpu_s < 0.2 * (time.monotonic() - started)
        assert done_records(before) < 20_000, "the outage came too late to be in mid-stream"
        mortal.start()
        back_at = time.monotonic()
        daemon.wait_until(
            lambda: done_records(daemon.metrics()) > done_records(before), "under way again", timeout_s=15
        )
        daemon.wait_until(lambda: daemon.get("/readyz")[0] == 200, "ready again", timeout_s=15)
        assert time.monotonic() - back_at < 15
        publish(stream.kafka.bootstrap, stream.features, records[20_000:])
        daemon.wait_until(
            lambda: committed(stream.kafka.bootstrap, stream.group, stream.features)[0] == 40_000,
            "done with all records",
        )
        assert daemon.output().count("waiting_for_broker") == daemon.output().count("broker_is_back") == 1
        assert daemon.stop()[0] == 0
    assert_nothing_lost(stream, machines_bundle, records)


@contextmanager
def outage(broker: KafkaBroker, kind: str) -> Iterator[None]:
    """Meanwhile the broker is gone, or it is there and says nothing."""
    if kind == "gone":
        broker.stop(signal.SIGKILL)
    else:
        os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if kind == "gone":
            broker.start()
        else:
            os.kill(broker.pid, signal.SIGCONT)


def test_an_outage_that_outlasts_broker_give_up_s_ends_the_daemon(mortal: KafkaBroker, stream: Stream) -> None:
    with stream.daemon(broker_give_up_s=2, shutdown_timeout_s=2) as daemon:
        daemon.wait_until_ready()
        with outage(mortal, "silent"):
            assert daemon.wait(30) == 5
        line = daemon.output().strip().splitlines()[-1]
    assert line.startswith(f"ganwatch: Kafka at {mortal.bootstrap}: gave up after broker_give_up_s = 2 seconds: ")
    assert "Traceback" not in daemon.output()


@pytest.mark.parametrize(("kind", "noticed"), [("gone", "broker"), ("silent", "alerts")])
def test_sigterm_during_an_outage_ends_it_in_time_and_commits_nothing_unacknowledged(
    mortal: KafkaBroker, stream: Stream, machines_bundle: Bundle, kind: str, noticed: str
) -> None:
    records = as_json(readings(20_000, seed=41, anomalies=200))
    publish(stream.kafka.bootstrap, stream.features, records)
    with stream.daemon(max_rows=200) as daemon:
        wait_until_under_way(daemon, 1000)
        with outage(mortal, kind):
            daemon.wait_until(lambda: waits_for(daemon, noticed), f"waiting for {noticed}", timeout_s=15)
            assert daemon.get("/healthz")[0] == 200
            code, seconds = daemon.stop()
    assert code == 0
    assert seconds < 10
    assert "Traceback" not in daemon.output()
    next_offset = committed(stream.kafka.bootstrap, stream.group, stream.features)[0] or 0
    assert next_offset < 20_000
    alerts = read_alerts(stream.kafka.bootstrap, stream.alerts)
    published = {alert["record"]["offset"] for alert in alerts}
    expected = expected_alerts(machines_bundle, stream.features, records, list(range(20_000)))
    assert {offset for offset in expected if offset < next_offset} <= published
    with stream.daemon() as daemon:
        daemon.wait_until_done(20_000 - next_offset)
    assert_nothing_lost(stream, machines_bundle, records)


@contextmanager
def writes_forbidden(stream: Stream, topic: str) -> Iterator[None]:
    """Meanwhile the broker refuses every message to the topic."""
    from kafka import KafkaAdminClient
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

    pattern = ResourcePattern(ResourceType.TOPIC, topic)
    rest = ACL("User:*", "*", ACLOperation.ALL, ACLPermissionType.ALLOW, pattern)
    ban = ACL("User:*", "*", ACLOperation.WRITE, ACLPermissionType.DENY, pattern)
    admin = KafkaAdminClient(bootstrap_servers=stream.kafka.bootstrap)
    try:
        admin.create_acls([rest])
        admin.create_acls([ban])
        yield
    finally:
        admin.delete_acls([ban])
        admin.close()


@pytest.mark.parametrize("role", ["alerts", "dead_letters"])
def test_a_topic_that_takes_nothing_is_waited_for_and_nothing_is_committed_or_lost(
    stream: Stream, machines_bundle: Bundle, role: str
) -> None:
    bootstrap = stream.kafka.bootstrap
    records = as_json(readings(3000, seed=42, anomalies=60))
    bad = [b"not json"] * 30
    with stream.daemon(max_rows=5000, session_timeout_s=2) as daemon:
        daemon.wait_until_ready()
        with writes_forbidden(stream, getattr(stream, role)):
            publish(bootstrap, stream.features, [*records, *bad])
            daemon.wait_until(lambda: waits_for(daemon, role), f"waiting for {role}", timeout_s=20)
            time.sleep(3)  # longer than the session: the group must keep a member that only waits
            status, body = daemon.get("/readyz")
            assert (status, body) == (503, f"waiting for {role}\n")
            assert daemon.get("/healthz")[0] == 200
            done = done_records(daemon.metrics())
            assert done < 3030
            assert (committed(bootstrap, stream.group, stream.features)[0] or 0) <= done
        daemon.wait_until_done(3030)
        daemon.wait_until(lambda: daemon.get("/readyz")[0] == 200, "ready again", timeout_s=15)
        assert daemon.metrics()["ganwatch_rebalances_total"] == 1
    assert committed(bootstrap, stream.group, stream.features)[0] == 3030
    assert len(read_all(bootstrap, stream.dead_letters)) == 30
    assert_nothing_lost(stream, machines_bundle, records)


def test_sigterm_while_the_alert_topic_takes_nothing_ends_it_in_time_and_commits_nothing(
    stream: Stream, machines_bundle: Bundle
) -> None:
    records = as_json(readings(2000, seed=43, anomalies=100))[::-1]  # every batch has an anomaly
    with stream.daemon() as daemon:
        daemon.wait_until_ready()
        with writes_forbidden(stream, stream.alerts):
            publish(stream.kafka.bootstrap, stream.features, records)
            daemon.wait_until(lambda: waits_for(daemon, "alerts"), "waiting for the alert topic", timeout_s=20)
            code, seconds = daemon.stop()
    assert code == 0
    assert seconds < 10
    assert "Traceback" not in daemon.output()
    assert committed(stream.kafka.bootstrap, stream.group, stream.features)[0] in {None, 0}
    assert read_all(stream.kafka.bootstrap, stream.alerts) == []
    with stream.daemon() as daemon:
        daemon.wait_until_done(2000)
    assert_nothing_lost(stream, machines_bundle, records)
