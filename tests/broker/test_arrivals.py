"""Records that arrive in the middle of a poll: they are returned at once, not slept beside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer import group

from monitor.stream.arrivals import notice_every_arrival
from tests.conftest import Kafka
from tests.topics import publish

pytestmark = pytest.mark.broker

DEADLINE_S = 20.0


class ClientClock:
    """The client's `time`, which notes how long it sleeps instead of sleeping."""

    def __init__(self) -> None:
        self.slept_s: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.fixture
def consumer(kafka: Kafka) -> Iterator[Any]:
    """At the end of an empty topic, with a fetch under way that the broker holds until records come."""
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap,
        group_id=None,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=10_000,
    )
    consumer.assign([TopicPartition(kafka.new_topic("features"), 0)])
    deadline = time.monotonic() + DEADLINE_S
    while not consumer._fetcher.in_flight_fetches():
        assert time.monotonic() < deadline, "the consumer never fetched"
        consumer.poll(timeout_ms=100)
    yield consumer
    consumer.close(autocommit=False)


@pytest.mark.parametrize("mended", [True, False])
def test_a_poll_does_not_sleep_beside_records_that_arrive_while_it_looks(
    kafka: Kafka, consumer: Any, monkeypatch: pytest.MonkeyPatch, *, mended: bool
) -> None:
    fetcher, clock = consumer._fetcher, ClientClock()
    (partition,) = consumer.assignment()
    send_fetches = fetcher.send_fetches

    def send_after_an_arrival() -> Any:
        monkeypatch.setattr(fetcher, "send_fetches", send_fetches)
        publish(kafka.bootstrap, partition.topic, [b"{}"])
        deadline = time.monotonic() + DEADLINE_S
        while not fetcher._completed_fetches:
            assert time.monotonic() < deadline, "the record never arrived"
            time.sleep(0.01)
        return send_fetches()

    if mended:
        notice_every_arrival(consumer)
    monkeypatch.setattr(fetcher, "send_fetches", send_after_an_arrival)
    monkeypatch.setattr(group, "time", clock)
    polled = consumer.poll(timeout_ms=5_000)
    assert [record.value for records in polled.values() for record in records] == [b"{}"]
    assert clock.slept_s == ([] if mended else [0.1])  # without the mend: no longer needed when this changes
