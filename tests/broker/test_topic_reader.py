"""The end or a time range of a topic, read without a group."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from monitor.errors import BrokerError
from monitor.settings import Settings, load_settings
from monitor.stream.topic_reader import TimeRange, read_topic
from tests.conftest import Kafka

pytestmark = pytest.mark.broker

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PARTITIONS = 3


def minute(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


def fill(kafka: Kafka, minutes: range, partitions: int = PARTITIONS) -> str:
    """A topic with one record a minute, dealt out over its partitions; a record's value is its minute."""
    from kafka import KafkaProducer

    topic = kafka.new_topic("history", partitions)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    for number in minutes:
        moment_ms = int(minute(number).timestamp() * 1000)
        producer.send(topic, str(number).encode(), timestamp_ms=moment_ms, partition=number % partitions)
    producer.flush(timeout=30)
    producer.close()
    return topic


@pytest.fixture(scope="module")
def history(kafka: Kafka) -> str:
    """An hour of records, minute 0 to 59."""
    return fill(kafka, range(60))


@pytest.fixture
def settings(kafka: Kafka) -> Settings:
    return load_settings(env={}, flags={"bootstrap_servers": kafka.bootstrap})


def minutes_of(topic: str, settings: Settings, window: TimeRange | None = None, last: int = 1000) -> list[int]:
    return [int(record.value) for record in read_topic(topic, settings, window=window, last=last)]


def test_everything_is_read_in_order_of_time_over_all_partitions(history: str, settings: Settings) -> None:
    assert minutes_of(history, settings) == list(range(60))


def test_the_last_records_are_shared_out_over_the_partitions(history: str, settings: Settings) -> None:
    assert minutes_of(history, settings, last=12) == list(range(48, 60))


@pytest.mark.parametrize("last", [1, 2, 7, 59])
def test_exactly_the_last_records_are_read_when_they_do_not_divide_evenly(
    history: str, settings: Settings, last: int
) -> None:
    found = minutes_of(history, settings, last=last)
    assert len(found) == last
    assert set(found) <= set(range(60 - last - PARTITIONS, 60))


def test_a_time_range_holds_its_start_and_not_its_end(history: str, settings: Settings) -> None:
    window = TimeRange(start=minute(10), end=minute(20))
    assert minutes_of(history, settings, window) == list(range(10, 20))


def test_an_open_range_reaches_to_the_beginning_or_the_end(history: str, settings: Settings) -> None:
    assert minutes_of(history, settings, TimeRange(end=minute(5))) == list(range(5))
    assert minutes_of(history, settings, TimeRange(start=minute(55))) == list(range(55, 60))


def test_last_counts_within_the_range(history: str, settings: Settings) -> None:
    window = TimeRange(start=minute(0), end=minute(30))
    assert minutes_of(history, settings, window, last=6) == list(range(24, 30))


@pytest.mark.parametrize(
    "window",
    [
        TimeRange(start=minute(100)),
        TimeRange(end=minute(-100)),
        TimeRange(start=minute(10), end=minute(10)),
        TimeRange(start=minute(20), end=minute(10)),
    ],
)
def test_an_empty_range_holds_nothing(history: str, settings: Settings, window: TimeRange) -> None:
    assert minutes_of(history, settings, window) == []


def test_an_empty_topic_holds_nothing(kafka: Kafka, settings: Settings) -> None:
    assert minutes_of(kafka.new_topic("empty", 2), settings) == []


def test_empty_partitions_take_no_share(kafka: Kafka, settings: Settings) -> None:
    topic = fill(kafka, range(0, 30, 3))  # all of them land in partition 0
    assert minutes_of(topic, settings, last=4) == [18, 21, 24, 27]


def test_progress_ends_at_the_number_of_records(history: str, settings: Settings) -> None:
    progress: list[tuple[int, int]] = []
    read_topic(history, settings, last=30, on_progress=lambda done, total: progress.append((done, total)))
    assert progress[-1] == (30, 30)
    assert progress == sorted(progress)


def test_records_that_were_deleted_are_not_waited_for(kafka: Kafka, settings: Settings) -> None:
    from kafka import KafkaAdminClient, TopicPartition

    topic = fill(kafka, range(30), partitions=1)
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.delete_records({TopicPartition(topic, 0): 20})
    admin.close()
    assert minutes_of(topic, settings) == list(range(20, 30))


def test_a_missing_topic_is_named(settings: Settings) -> None:
    with pytest.raises(BrokerError, match=r"no topic 'absent'"):
        read_topic("absent", settings, last=10)
