"""A member of a group whose polls end before a join does: it gets its partitions all the same."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.admin import NewPartitions
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from monitor.stream.rejoin import take_every_join
from tests.conftest import Kafka

pytestmark = pytest.mark.broker

DEADLINE_S = 20.0


@pytest.fixture
def member(kafka: Kafka) -> Iterator[Callable[[str], Any]]:
    """Makes mended consumers on a topic, each in a group of its own."""
    made: list[Any] = []

    def make(topic: str) -> Any:
        consumer = KafkaConsumer(
            topic,
            bootstrap_servers=kafka.bootstrap,
            group_id=f"group-{uuid.uuid4().hex[:8]}",
            partition_assignment_strategy=[CooperativeStickyAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        take_every_join(consumer)
        made.append(consumer)
        return consumer

    yield make
    for consumer in made:
        consumer.close(autocommit=False)


def poll_until_assigned(consumer: Any, partitions: int, timeout_ms: int, pause_s: float = 0.0) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while len(consumer.assignment()) < partitions:
        assert time.monotonic() < deadline, f"still {consumer.assignment()} after {DEADLINE_S:g} s"
        consumer.poll(timeout_ms=timeout_ms)
        time.sleep(pause_s)


def test_partitions_that_were_added_are_assigned_although_no_poll_lasts_as_long_as_a_rejoin(
    kafka: Kafka, member: Callable[[str], Any]
) -> None:
    topic = kafka.new_topic("features")
    consumer = member(topic)
    poll_until_assigned(consumer, 1, timeout_ms=500)
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_partitions({topic: NewPartitions(total_count=3)})
    admin.close()
    consumer._coordinator._cluster.request_update()
    poll_until_assigned(consumer, 3, timeout_ms=1)


def test_polls_that_do_not_wait_at_all_complete_a_join_and_do_not_join_again_and_again(
    kafka: Kafka, member: Callable[[str], Any]
) -> None:
    consumer = member(kafka.new_topic("features", 2))
    poll_until_assigned(consumer, 2, timeout_ms=0, pause_s=0.1)
    assert consumer.group_metadata().generation_id <= 3
