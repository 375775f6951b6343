"""What a real broker stores, polled as whole batches: the same records that kafka-python gives one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from monitor.stream.record_batches import RecordBatch, poll_record_batches
from monitor.stream.records import Record, Records
from tests.conftest import Kafka

pytestmark = pytest.mark.broker

FILLING = [b"", b"{}", b"x" * 70, b"y" * 9000, None]


def write(kafka: Kafka, topic: str, first: int, count: int, **options: Any) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, linger_ms=20, **options)
    send(producer, topic, first, count)
    producer.close()


def send(producer: KafkaProducer, topic: str, first: int, count: int) -> None:
    for number in range(first, first + count):
        value = FILLING[number % len(FILLING)]
        producer.send(
            topic,
            value=value,
            key=None if number % 3 and value is not None else b"key %d" % number,
            headers=[("n", b"%d" % number)] if number % 4 == 0 else None,
            timestamp_ms=1_772_366_400_000 + 7 * number,
        )
    producer.flush(timeout=30)


def polled(kafka: Kafka, topic: str, *, whole: bool, start: int, at_once: int) -> tuple[list[Any], int]:
    """Everything a consumer gives from `start` on, poll after poll, and its position at the end."""
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap,
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=20_000,
    )
    if whole:
        poll_record_batches(consumer)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek(partition, start)
    end = consumer.end_offsets([partition])[partition]
    found: list[Any] = []
    while consumer.position(partition) < end:
        for part in consumer.poll(timeout_ms=500, max_records=at_once).values():
            assert sum(map(len, part)) <= at_once if whole else len(part) <= at_once
            found += part
    position = consumer.position(partition)
    consumer.close()
    return found, position


def one_by_one(consumed: Sequence[Any]) -> list[Record]:
    return [Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in consumed]


def from_batches(topic: str, batches: Sequence[RecordBatch]) -> list[Record]:
    columns = Records.read(topic, [(0, batch) for batch in batches])
    return [columns[row] for row in range(len(columns))]


def compare(kafka: Kafka, topic: str, start: int, at_once: int) -> list[Record]:
    """Reads the topic both ways."""
    expected, expected_position = polled(kafka, topic, whole=False, start=start, at_once=at_once)
    batches, position = polled(kafka, topic, whole=True, start=start, at_once=at_once)
    found = from_batches(topic, batches)
    assert found == one_by_one(expected)
    assert position == expected_position
    return found


@pytest.mark.parametrize(("start", "at_once"), [(0, 10_000), (0, 7), (137, 64), (233, 1)])
def test_batches_of_every_codec_give_the_records_that_the_client_gives(kafka: Kafka, start: int, at_once: int) -> None:
    topic = kafka.new_topic("codecs")
    for place, codec in enumerate((None, "gzip", "lz4", "zstd")):
        write(kafka, topic, 60 * place, 60, compression_type=codec)
    found = compare(kafka, topic, start, at_once)
    assert [record.offset for record in found] == list(range(start, 240))


def test_records_of_aborted_transactions_are_left_out(kafka: Kafka) -> None:
    topic = kafka.new_topic("transactions")
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id="writer", linger_ms=20)
    producer.init_transactions()
    for number, ending in enumerate(["commit", "abort", "commit", "abort", "abort", "commit"]):
        producer.begin_transaction()
        send(producer, topic, 10 * number, 10)
        producer.commit_transaction() if ending == "commit" else producer.abort_transaction()
    producer.close()
    found = compare(kafka, topic, 0, 500)
    numbers = [(record.timestamp - 1_772_366_400_000) // 7 for record in found]
    assert numbers == [*range(10), *range(20, 30), *range(50, 60)]
