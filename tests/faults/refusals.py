"""Rows 11 and 13: a topic that takes nothing, takes it slowly, or not at that size."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from tests.broker.conftest import Stream
from tests.broker.test_outage import writes_forbidden
from tests.daemon import done_records
from tests.faults.oracle import compare
from tests.faults.outages import publish_mixed
from tests.faults.outcome import Outcome
from tests.faults.stage import Stage, next_offsets, seconds_until, wait_until_committed, waits_for
from tests.machines import as_json, readings
from tests.topics import headers_of, publish, read_all

POISON = b"no json"
BYTES_PER_S = 20_000
TOPIC_BYTES = 20_000


def dead_letters_refused(stage: Stage, seed: int, *, records: int = 3000, refused_s: float = 8.0) -> Outcome:
    """Row 11. T: from the right to write to the first dead letter."""
    stream = stage.stream()
    values = as_json(readings(records, seed=4000 + seed, anomalies=records // 50))
    at = records // 3
    with stream.daemon(max_rows=100) as daemon:
        daemon.wait_until_ready()
        with writes_forbidden(stream, stream.dead_letters):
            publish(stream.kafka.bootstrap, stream.features, [*values[:at], *[POISON] * 20, *values[at:]])
            daemon.wait_until(lambda: waits_for(daemon, "dead_letters"), "waiting for the dead letters", 20)
            time.sleep(refused_s)
            halted_at = next_offsets(stream)
        back_s = seconds_until(daemon, lambda: not waits_for(daemon, "dead_letters"), "delivering again")
        wait_until_committed(daemon, stream, records + 20)
        assert daemon.stop()[0] == 0
    delivered = compare(stream, stage.bundle)
    return Outcome(
        demands=delivered.at_least_once
        | {
            "nothing behind the first dead letter is committed": halted_at <= at,
            "each invalid record is a dead letter": delivered.dead_letters == 20,
        },
        delivered=delivered,
        recover_s=back_s,
        notes=f"refused for {refused_s:g} s, committed until {halted_at} of {records + 20}",
    )


def alerts_refused(stage: Stage, seed: int, *, records: int = 100_000, refused_s: float = 8.0) -> Outcome:
    """Row 13. The alert topic is closed, then slow, then takes small messages only. T: from the right to write to the first alert."""
    stream = stage.stream()
    with stream.daemon() as daemon:
        publish_mixed(stream, records, seed)
        wait_until_committed(daemon, stream, records)
        steady_mb = daemon.resident_mb(peak=True)
        with writes_forbidden(stream, stream.alerts):
            publish_mixed(stream, records, seed)
            daemon.wait_until(lambda: waits_for(daemon, "alerts"), "waiting for the alert topic", 20)
            time.sleep(refused_s)
            held_back = 2 * records - done_records(daemon.metrics())
        back_s = seconds_until(daemon, lambda: not waits_for(daemon, "alerts"), "delivering again")
        wait_until_committed(daemon, stream, 2 * records)
        with limited(stage, f"ganwatch-{stream.group}"):
            publish_mixed(stream, records, seed)
            time.sleep(refused_s)
            slowed = 3 * records - done_records(daemon.metrics())
        wait_until_committed(daemon, stream, 3 * records)
        large = _publish_large(stream)
        wait_until_committed(daemon, stream, 3 * records + large)
        peak_mb = daemon.resident_mb(peak=True)
        assert daemon.stop()[0] == 0
    delivered = compare(stream, stage.bundle)
    return Outcome(
        demands=delivered.at_least_once
        | {
            "a closed topic holds the daemon back": held_back > 0,
            "a slow topic holds the daemon back": slowed > 0,
            "a dead letter that is too large keeps its size and hash": _shrunk_letters(stream) == 1,
            "memory stays below twice its steady state": peak_mb <= 2 * steady_mb,
        },
        delivered=delivered,
        recover_s=back_s,
        figures={"backpressure_steady_mb": round(steady_mb, 1), "backpressure_peak_mb": round(peak_mb, 1)},
        notes=f"memory {steady_mb:.0f} MB steady, {peak_mb:.0f} MB at most; {held_back:.0f} and {slowed:.0f} records held back",
    )


@contextmanager
def limited(stage: Stage, client_id: str) -> Iterator[None]:
    """Meanwhile the broker takes few bytes a second from a client."""
    stage.broker.limit_producer(client_id, BYTES_PER_S)
    try:
        yield
    finally:
        stage.broker.limit_producer(client_id, None)


def _publish_large(stream: Stream) -> int:
    """One alert and one dead letter that are larger than their topics take; returns how many records that were."""
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType

    admin = KafkaAdminClient(bootstrap_servers=stream.kafka.bootstrap)
    limit = {"max.message.bytes": str(TOPIC_BYTES)}
    admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name, limit) for name in (stream.alerts, stream.dead_letters)]
    )
    admin.close()
    odd = json.loads(as_json(readings(2, seed=7, anomalies=1))[-1])
    # Numbers that do not compress well, or the topic would take them.
    large = msgspec.json.encode(odd | {"note": [hash((n, "note")) for n in range(20_000)]})
    publish(stream.kafka.bootstrap, stream.features, [large, b"!" + large])
    return 2


def _shrunk_letters(stream: Stream) -> int:
    letters = read_all(stream.kafka.bootstrap, stream.dead_letters)
    return sum("truncated" in headers_of(letter) for letter in letters)
