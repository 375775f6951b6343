"""Exactly-once on a real Kafka: for a reader of committed messages every alert is there once, whatever happens meanwhile."""

from __future__ import annotations

import json
import signal
import time

import msgspec
import pytest

from monitor.model.bundle import Bundle
from tests.broker.conftest import Stream
from tests.broker.test_delivery import expected_alerts, found_alerts
from tests.daemon import Daemon, done_records
from tests.machines import as_json, readings
from tests.topics import committed, headers_of, publish, read_alerts, read_all

pytestmark = pytest.mark.broker


def exactly_once(stream: Stream, instance: str = "one", **changes: object) -> Daemon:
    return stream.daemon(delivery="exactly_once", group_instance_id=instance, **changes)


def wait_until_committed(daemon: Daemon, stream: Stream, records: int) -> None:
    daemon.wait_until(
        lambda: committed(stream.kafka.bootstrap, stream.group, stream.features)[0] == records, "done with the rest", 60
    )


def assert_once_and_in_order(stream: Stream, bundle: Bundle, records: list[bytes]) -> None:
    """Every alert that an offline run expects, no other, each once, in the order of the records."""
    alerts = read_alerts(stream.kafka.bootstrap, stream.alerts)
    offsets = [alert["record"]["offset"] for alert in alerts]
    assert offsets == sorted(set(offsets))
    assert found_alerts(stream) == expected_alerts(bundle, stream.features, records, list(range(len(records))))


def test_alerts_dead_letters_and_offsets_of_a_calm_run_are_complete(stream: Stream, machines_bundle: Bundle) -> None:
    records = as_json(readings(5000, seed=50, anomalies=100))
    publish(stream.kafka.bootstrap, stream.features, [*records, *[b"no json"] * 50])
    with exactly_once(stream, max_rows=500) as daemon:
        wait_until_committed(daemon, stream, 5050)
        daemon.wait_until_done(5050)
        metrics = daemon.metrics()
        assert daemon.stop()[0] == 0
    assert_once_and_in_order(stream, machines_bundle, records)
    letters = read_all(stream.kafka.bootstrap, stream.dead_letters)
    assert [int(headers_of(letter)["offset"]) for letter in letters] == list(range(5000, 5050))
    assert metrics["ganwatch_records_consumed_total"] == 5050
    assert metrics["ganwatch_last_commit_timestamp_seconds"] > time.time() - 60
    assert "transaction_failed" not in daemon.output()


def test_messages_that_are_too_large_are_made_smaller_and_all_others_stay_as_they_are(stream: Stream) -> None:
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType

    admin = KafkaAdminClient(bootstrap_servers=stream.kafka.bootstrap)
    admin.alter_configs(
        [
            ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": str(limit)})
            for name, limit in ((stream.features, 8_000_000), (stream.alerts, 20_000), (stream.dead_letters, 20_000))
        ]
    )
    admin.close()
    small = json.loads(as_json(readings(2, seed=51, anomalies=1))[-1])
    large = msgspec.json.encode(small | {"note": list(range(10_000))})  # more than the topic takes
    huge = msgspec.json.encode(small | {"note": list(range(300_000))})  # more than even the client would send
    alike = msgspec.json.encode(small)
    publish(stream.kafka.bootstrap, stream.features, [alike, large, b"!" + large, huge, alike])
    with exactly_once(stream, compression="none") as daemon:
        daemon.wait_until_done(5)
    alerts = read_alerts(stream.kafka.bootstrap, stream.alerts)
    assert [(alert["record"]["offset"], "payload" in alert) for alert in alerts] == [
        (0, True), (1, False), (3, False), (4, True),
    ]  # fmt: skip
    (letter,) = read_all(stream.kafka.bootstrap, stream.dead_letters)
    assert headers_of(letter)["size"] == str(len(large) + 1)


def test_a_replica_that_slept_twice_its_session_delivers_nothing_of_what_was_given_away(
    stream: Stream, machines_bundle: Bundle
) -> None:
    records = as_json(readings(6000, seed=52, anomalies=60))
    publish(stream.kafka.bootstrap, stream.features, records)
    zombie = exactly_once(stream, "zombie", max_rows=50, session_timeout_s=3).start()
    zombie.wait_until(lambda: done_records(zombie.metrics()) > 200, "under way", pause_s=0.01)
    zombie.signal(signal.SIGSTOP)
    try:
        time.sleep(6)
        with exactly_once(stream, "heir", session_timeout_s=3) as heir:
            wait_until_committed(heir, stream, 6000)
            zombie.signal(signal.SIGCONT)
            time.sleep(3)  # for what it still holds
            assert committed(stream.kafka.bootstrap, stream.group, stream.features)[0] == 6000
            zombie.stop()
    finally:
        zombie.signal(signal.SIGCONT)
    assert_once_and_in_order(stream, machines_bundle, records)


def test_a_second_process_of_the_same_name_ends_the_first_with_one_clear_error(
    stream: Stream, machines_bundle: Bundle
) -> None:
    records = as_json(readings(8000, seed=53, anomalies=80))
    publish(stream.kafka.bootstrap, stream.features, records)
    first = exactly_once(stream, "same", max_rows=20).start()
    first.wait_until(lambda: done_records(first.metrics()) > 100, "under way", pause_s=0.01)
    with exactly_once(stream, "same") as second:
        assert first.wait(30) == 5
        line = first.output().strip().splitlines()[-1]
        assert "another replica uses group_instance_id 'same'" in line
        assert "Traceback" not in first.output()
        wait_until_committed(second, stream, 8000)
        assert second.stop()[0] == 0
    assert_once_and_in_order(stream, machines_bundle, records)
