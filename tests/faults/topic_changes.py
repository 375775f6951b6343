"""Row 22: the features topic gets more partitions, and is deleted and created anew."""

from __future__ import annotations

import time
from typing import Any

from tests.broker.conftest import Stream
from tests.faults.oracle import compare, inputs_of
from tests.faults.outcome import Delivered, Outcome
from tests.faults.stage import Stage, wait_until_committed
from tests.machines import as_json, readings
from tests.topics import publish, read_alerts

# The daemon asks for the topic's partitions that often; a rebalance follows.
METADATA_AGE_S = 30.0
REBALANCE_S = 5.0


def topic_changes(stage: Stage, seed: int, *, records: int = 1000) -> Outcome:
    """Row 22. T: from the new partitions to the last record in them; how long a new topic takes to be noticed is in the notes."""
    added, added_s = _partitions_added(stage, seed, records)
    recreated, demands, noticed_s = created_anew(stage, seed, records)
    return Outcome(
        demands={f"partitions added: {demand}": held for demand, held in added.exactly_once.items()}
        | {f"topic created anew: {demand}": held for demand, held in (recreated.exactly_once | demands).items()}
        | {
            "new partitions are read within the metadata age and a rebalance": added_s <= METADATA_AGE_S + REBALANCE_S,
            "a new topic is noticed within the metadata age": noticed_s <= METADATA_AGE_S,
        },
        delivered=added + recreated,
        recover_s=added_s,
        notes=f"a topic that was created anew is noticed after {noticed_s:.1f} s; exit code 5, and the next start reads it",
    )


def _partitions_added(stage: Stage, seed: int, records: int) -> tuple[Delivered, float]:
    stream = stage.stream()
    values = as_json(readings(4 * records, seed=11_000 + seed, anomalies=records))[::-1]
    with stream.daemon() as daemon:
        daemon.wait_until_ready()
        publish(stream.kafka.bootstrap, stream.features, values[:records])
        wait_until_committed(daemon, stream, records)
        _administer(stream, lambda admin: admin.create_partitions({stream.features: 3}))
        for partition in (1, 2, 0):
            mine = values[(1 + partition) * records : (2 + partition) * records]
            publish(stream.kafka.bootstrap, stream.features, mine, partition=partition)
        started = time.monotonic()
        wait_until_committed(daemon, stream, 4 * records, partitions=3)
        added_s = time.monotonic() - started
        assert daemon.stop()[0] == 0
    return compare(stream, stage.bundle), added_s


def created_anew(stage: Stage, seed: int, records: int) -> tuple[Delivered, dict[str, bool], float]:
    """The new topic is longer than the old one was, so that old offsets would be valid there, and wrong."""
    stream = stage.stream()
    values = as_json(readings(4 * records, seed=12_000 + seed, anomalies=records))[::-1]
    daemon = stream.daemon().start()
    publish(stream.kafka.bootstrap, stream.features, values[:records])
    wait_until_committed(daemon, stream, records)
    old = {alert["id"] for alert in read_alerts(stream.kafka.bootstrap, stream.alerts)}
    _administer(stream, lambda admin: admin.delete_topics([stream.features]))
    time.sleep(1.0)
    _administer(stream, lambda admin: _create(admin, stream.features))
    publish(stream.kafka.bootstrap, stream.features, values[records:])
    started = time.monotonic()
    code = daemon.wait(METADATA_AGE_S + 30)
    noticed_s = time.monotonic() - started
    named = "was deleted and created anew" in daemon.output().splitlines()[-1]
    fresh = Stream(
        stream.kafka, stream.folder, stream.features, stage.stream().alerts, stream.dead_letters, stream.group
    )
    with fresh.daemon() as again:
        wait_until_committed(again, fresh, 3 * records)
        assert again.stop()[0] == 0
    new = {alert["id"] for alert in read_alerts(fresh.kafka.bootstrap, fresh.alerts)}
    demands = {
        "exit code 5, and says so": code == 5 and named,
        "its alerts have ids of their own": bool(old) and not old & new,
    }
    return compare(fresh, stage.bundle, inputs=inputs_of(fresh)), demands, noticed_s


def _create(admin: Any, topic: str) -> None:
    from kafka.admin import NewTopic
    from kafka.errors import TopicAlreadyExistsError

    deadline = time.monotonic() + 20
    while True:
        try:
            admin.create_topics([NewTopic(topic, 1, 1)], wait_for_metadata=True)
            return
        except TopicAlreadyExistsError:  # the old one is still going
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _administer(stream: Stream, change: Any) -> None:
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=stream.kafka.bootstrap)
    try:
        change(admin)
    finally:
        admin.close()
