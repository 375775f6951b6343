"""The daemon on a real Kafka: every record ends as alert, as dead letter or as scored, once, and equal to an offline run."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable

import jsonschema
import msgspec
import numpy as np
import polars as pl
import pytest

from monitor.alerting.alert import alert_schema
from monitor.model.bundle import Bundle
from monitor.model.calibration import threshold_of, tie_breakers
from monitor.model.detection import detect
from tests.broker.conftest import Stream
from tests.machines import as_json, readings
from tests.topics import committed, headers_of, publish, read_alerts, read_all

pytestmark = pytest.mark.broker


def expected_alerts(
    bundle: Bundle, topic: str, records: list[bytes], offsets: list[int], rate: float = 0.01
) -> dict[int, tuple[float, float]]:
    """Offset → (raw score, p-value) of the records that must be flagged."""
    decoded = bundle.decoder().decode(records)
    assert not decoded.invalid
    detections = detect(bundle, decoded.frame, tie_breakers(bundle.sha256, topic, 0, np.array(offsets)))
    rows = np.flatnonzero(detections.score >= threshold_of(rate))
    return {offsets[row]: (float(detections.raw_score[row]), float(detections.p_value[row])) for row in rows}


def found_alerts(stream: Stream) -> dict[int, tuple[float, float]]:
    """The same from the alert topic; every alert must be there once."""
    alerts = read_alerts(stream.kafka.bootstrap, stream.alerts)
    assert len({alert["id"] for alert in alerts}) == len(alerts)
    return {alert["record"]["offset"]: (alert["raw_score"], alert["p_value"]) for alert in alerts}


def test_alerts_equal_an_offline_run_record_for_record(stream: Stream, machines_bundle: Bundle) -> None:
    records = as_json(readings(5000, seed=2, anomalies=100))
    publish(stream.kafka.bootstrap, stream.features, records)
    with stream.daemon(max_rows=700) as daemon:
        daemon.wait_until_done(5000)
        metrics = daemon.metrics()
    expected = expected_alerts(machines_bundle, stream.features, records, list(range(5000)))
    assert found_alerts(stream) == expected
    assert metrics["ganwatch_records_consumed_total"] == metrics["ganwatch_records_scored_total"] == 5000
    assert metrics["ganwatch_records_flagged_total"] == len(expected)
    assert metrics["ganwatch_score_count"] == metrics["ganwatch_end_to_end_latency_seconds_count"] == 5000
    broken = set(range(4900, 5000))
    assert len(broken & set(expected)) >= 90


def test_every_alert_keeps_the_published_schema_and_explains_itself(stream: Stream) -> None:
    records = as_json(readings(300, seed=3, anomalies=30))
    publish(stream.kafka.bootstrap, stream.features, records, key=b"press-7")
    with stream.daemon(attribution_top_k=3) as daemon:
        daemon.wait_until_done(300)
    alerts = read_alerts(stream.kafka.bootstrap, stream.alerts)
    assert len(alerts) >= 25
    for alert in alerts:
        jsonschema.validate(alert, alert_schema())
        assert alert["record"]["key"] == "press-7"
        assert alert["record"]["id"] == f"r{alert['record']['offset']}"
        assert alert["record"]["event_time"] == "2026-03-01T08:00:00+01:00"
        assert alert["payload"] == json.loads(records[alert["record"]["offset"]])
        assert len(alert["attribution"]) == 3
    blamed = [alert["attribution"][0]["feature"] for alert in alerts if alert["record"]["offset"] >= 270]
    assert sum(feature.startswith("motor.") or feature == "cooling" for feature in blamed) >= 0.8 * len(blamed)


def test_bad_records_become_dead_letters_and_leave_the_good_ones_as_they_are(
    stream: Stream, machines_bundle: Bundle
) -> None:
    good = as_json(readings(400, seed=4, anomalies=40))
    bad: list[tuple[bytes | None, str]] = [
        (None, "empty"),
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"\xff\xfe", "not_utf8"),
        (b"{", "not_json"),
        (good[0] + good[1], "not_json"),
        (b'{"pieces": NaN}', "not_json"),
        (b'{"mode": "a\nb", "pieces": 1}', "not_json"),
        (b"[1, 2]", "not_one_object"),
        (b'{"pieces": "many"}', "wrong_type"),
        (b'{"pieces": 1, "mode": {"a": 1}}', "wrong_type"),
        (b'{"load": 1.0}', "missing_field"),
    ]
    values: list[bytes | None] = []
    good_offsets = []
    for number, record in enumerate(good):
        if number % 30 == 5:
            values.append(bad[(number // 30) % len(bad)][0])
        good_offsets.append(len(values))
        values.append(record)
    values.extend(value for value, _ in bad)
    publish(stream.kafka.bootstrap, stream.features, values)
    with stream.daemon(max_rows=64) as daemon:
        daemon.wait_until_done(len(values))
        metrics = daemon.metrics()
    assert found_alerts(stream) == expected_alerts(machines_bundle, stream.features, good, good_offsets)
    reasons = dict(bad)
    letters = read_all(stream.kafka.bootstrap, stream.dead_letters)
    assert {int(headers_of(letter)["offset"]) for letter in letters} == set(range(len(values))) - set(good_offsets)
    for letter in letters:
        headers = headers_of(letter)
        original = values[int(headers["offset"])]
        assert letter.value == (original or b"")
        assert headers["reason"] == reasons[original]
        assert headers["topic"] == stream.features
        assert headers["partition"] == "0"
        assert headers["detail"]
        assert ("null_value" in headers) == (original is None)
    assert metrics["ganwatch_records_scored_total"] == len(good)
    assert metrics["ganwatch_records_consumed_total"] == len(values)


def test_too_many_bad_records_stop_the_daemon_and_commit_nothing_of_them(stream: Stream) -> None:
    good = as_json(readings(500, seed=5))
    publish(stream.kafka.bootstrap, stream.features, [*good, *[b'{"other": "schema"}'] * 300])
    daemon = stream.daemon(max_rows=100, invalid_window_rows=500, max_invalid_ratio=0.2).start()
    assert daemon.wait() == 3
    line = daemon.output().strip().splitlines()[-1]
    assert line.startswith(f"ganwatch: topic '{stream.features}': 200 of the last 500 records are invalid")
    next_offset = committed(stream.kafka.bootstrap, stream.group, stream.features)[0]
    assert next_offset == 600  # the batch that trips the limit (501 to 600 and more) is not delivered
    assert len(read_all(stream.kafka.bootstrap, stream.dead_letters)) == 100


def test_sigterm_ends_it_within_ten_seconds_and_a_restart_goes_on_where_it_stopped(
    stream: Stream, machines_bundle: Bundle
) -> None:
    records = as_json(readings(30_000, seed=6, anomalies=300))
    publish(stream.kafka.bootstrap, stream.features, records)
    with stream.daemon(max_rows=500) as daemon:
        daemon.wait_until(
            lambda: daemon.metrics().get("ganwatch_records_scored_total", 0) > 3000, "under way", pause_s=0.01
        )
        code, seconds = daemon.stop()
    assert code == 0
    assert seconds < 10
    stopped_at = committed(stream.kafka.bootstrap, stream.group, stream.features)[0]
    assert stopped_at is not None
    assert 3000 < stopped_at < 30_000
    with stream.daemon() as daemon:
        daemon.wait_until_done(30_000 - stopped_at)
        assert daemon.metrics()["ganwatch_records_consumed_total"] == 30_000 - stopped_at
    assert found_alerts(stream) == expected_alerts(machines_bundle, stream.features, records, list(range(30_000)))
    assert committed(stream.kafka.bootstrap, stream.group, stream.features)[0] == 30_000


def test_an_alert_that_is_too_large_loses_its_payload_and_a_dead_letter_its_value(stream: Stream) -> None:
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType

    admin = KafkaAdminClient(bootstrap_servers=stream.kafka.bootstrap)
    admin.alter_configs(
        [
            ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": "20000"})
            for name in (stream.alerts, stream.dead_letters)
        ]
    )
    admin.close()
    odd = json.loads(as_json(readings(2, seed=7, anomalies=1))[-1])
    large = msgspec.json.encode(odd | {"note": list(range(10_000))})
    small = msgspec.json.encode(odd)
    publish(stream.kafka.bootstrap, stream.features, [small, large, b"!" + large, small])
    with stream.daemon(compression="none") as daemon:
        daemon.wait_until_done(4)
    alerts = {alert["record"]["offset"]: alert for alert in read_alerts(stream.kafka.bootstrap, stream.alerts)}
    assert {offset: "payload" in alert for offset, alert in alerts.items()} == {0: True, 1: False, 3: True}
    (letter,) = read_all(stream.kafka.bootstrap, stream.dead_letters)
    assert letter.value == b""
    assert headers_of(letter)["truncated"] == "true"
    assert int(headers_of(letter)["size"]) == len(large) + 1


def test_a_first_start_may_begin_at_the_end(stream: Stream) -> None:
    records = as_json(readings(200, seed=8))
    publish(stream.kafka.bootstrap, stream.features, records[:150])
    with stream.daemon(start_from="latest") as daemon:
        daemon.wait_until(lambda: "partition_begun" in daemon.output(), "at its first offset")
        publish(stream.kafka.bootstrap, stream.features, records[150:])
        daemon.wait_until_done(50)
        assert daemon.metrics()["ganwatch_records_consumed_total"] == 50


def test_lost_offsets_are_counted_and_reading_goes_on(stream: Stream) -> None:
    records = as_json(readings(300, seed=9))
    publish(stream.kafka.bootstrap, stream.features, records[:100])
    with stream.daemon() as daemon:
        daemon.wait_until_done(100)
    publish(stream.kafka.bootstrap, stream.features, records[100:])
    delete_records_before(stream, 250)
    with stream.daemon() as daemon:
        daemon.wait_until_done(50)
        assert daemon.metrics()["ganwatch_records_skipped_total"] == 150
    failing = stream.daemon(on_offset_lost="fail", group_id=stream.group)
    assert failing.start().wait_until_ready() > 0  # the group's offset is at the end again: nothing is lost now
    failing.stop()


def test_lost_offsets_end_the_daemon_when_it_is_told_to_fail(stream: Stream) -> None:
    records = as_json(readings(200, seed=9))
    publish(stream.kafka.bootstrap, stream.features, records[:100])
    with stream.daemon() as daemon:
        daemon.wait_until_done(100)
    publish(stream.kafka.bootstrap, stream.features, records[100:])
    delete_records_before(stream, 150)
    failing = stream.daemon(on_offset_lost="fail").start()
    assert failing.wait() == 5
    line = failing.output().strip().splitlines()[-1]
    assert f"offset 100 of {stream.features}/0 no longer exists and on_offset_lost is 'fail'" in line
    assert committed(stream.kafka.bootstrap, stream.group, stream.features)[0] == 100


def delete_records_before(stream: Stream, offset: int) -> None:
    """Has the broker forget the beginning of the features topic."""
    from kafka import KafkaAdminClient, TopicPartition

    admin = KafkaAdminClient(bootstrap_servers=stream.kafka.bootstrap)
    admin.delete_records({TopicPartition(stream.features, 0): offset})
    admin.close()


def test_replicas_share_the_partitions_and_nothing_is_lost_when_they_come_and_go(
    new_stream: Callable[[int], Stream], machines_bundle: Bundle
) -> None:
    stream = new_stream(4)
    records = as_json(readings(40_000, seed=10, anomalies=400))
    publish(stream.kafka.bootstrap, stream.features, records[:20_000], partition=None)
    first = stream.daemon(max_rows=200).start()
    first.wait_until_ready()
    second = stream.daemon(max_rows=200).start()
    second.wait_until_ready()
    publish(stream.kafka.bootstrap, stream.features, records[20_000:], partition=None)
    first.wait_until(
        lambda: (
            first.metrics()["ganwatch_rebalances_total"] >= 2 or second.metrics()["ganwatch_records_scored_total"] > 0
        ),
        "sharing",
    )
    second.stop()
    ends = dict.fromkeys(range(4), 10_000)
    first.wait_until(
        lambda: committed(stream.kafka.bootstrap, stream.group, stream.features, range(4)) == ends,
        "done with all partitions",
    )
    first.stop()
    alerts = read_alerts(stream.kafka.bootstrap, stream.alerts)
    places = {(alert["record"]["partition"], alert["record"]["offset"]) for alert in alerts}
    assert len({alert["id"] for alert in alerts}) == len(places)
    frame = pl.DataFrame({"n": range(40_000)}).with_columns(partition=pl.col("n") % 4)
    expected = set()
    for partition in range(4):
        mine = [records[n] for n in frame.filter(pl.col("partition") == partition).get_column("n")]
        decoded = machines_bundle.decoder().decode(mine)
        breakers = tie_breakers(machines_bundle.sha256, stream.features, partition, np.arange(len(mine)))
        detections = detect(machines_bundle, decoded.frame, breakers)
        expected |= {(partition, int(row)) for row in np.flatnonzero(detections.score >= threshold_of(0.01))}
    assert places == expected


def test_a_frozen_replica_commits_nothing_for_partitions_it_has_lost(stream: Stream) -> None:
    records = as_json(readings(60_000, seed=11))
    publish(stream.kafka.bootstrap, stream.features, records)
    frozen = stream.daemon(max_rows=100, session_timeout_s=2).start()
    frozen.wait_until(lambda: frozen.metrics().get("ganwatch_records_scored_total", 0) > 500, "under way", pause_s=0.01)
    frozen.signal(signal.SIGSTOP)
    try:
        with stream.daemon(session_timeout_s=2) as heir:
            bootstrap, group = stream.kafka.bootstrap, stream.group
            heir.wait_until(
                lambda: committed(bootstrap, group, stream.features)[0] == 60_000, "done with the rest", pause_s=0.5
            )
            frozen.signal(signal.SIGCONT)
            until = time.monotonic() + 4
            while time.monotonic() < until:
                assert committed(bootstrap, group, stream.features)[0] == 60_000
                time.sleep(0.3)
    finally:
        frozen.signal(signal.SIGCONT)
        frozen.stop()
