"""Publishes to and reads from topics in tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec


def publish(
    bootstrap: str, topic: str, values: Sequence[bytes | None], *, partition: int | None = 0, key: bytes | None = None
) -> None:
    """Sends values in order and waits for all acknowledgements; partition None spreads them."""
    from kafka import KafkaProducer

    producer = KafkaProducer(
        bootstrap_servers=bootstrap, compression_type="lz4", linger_ms=5, max_request_size=20_000_000
    )
    try:
        futures = []
        for number, value in enumerate(values):
            needs_key = key if key is not None or value is not None else b"null"
            target = number % _partitions(producer, topic) if partition is None else partition
            futures.append(producer.send(topic, value=value, key=needs_key, partition=target))
        for future in futures:
            future.get(timeout=30)
    finally:
        producer.close()


def _partitions(producer: Any, topic: str) -> int:
    return len(producer.partitions_for(topic))


def read_all(bootstrap: str, topic: str) -> list[Any]:
    """Every committed record of a topic as it stands now, partition by partition."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        isolation_level="read_committed",
        fetch_max_bytes=64 * 2**20,
        max_partition_fetch_bytes=64 * 2**20,
    )
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
        ends = consumer.end_offsets(partitions)
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        records: list[Any] = []
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for batch in consumer.poll(timeout_ms=500, max_records=20_000).values():
                records.extend(batch)
    finally:
        consumer.close()
    return sorted(records, key=lambda record: (record.partition, record.offset))


def read_alerts(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    """Every alert document of a topic."""
    return [msgspec.json.decode(record.value) for record in read_all(bootstrap, topic)]


def last_value(bootstrap: str, topic: str, partition: int = 0) -> dict[str, Any] | None:
    """The document at the end of a partition that nobody writes to in transactions; None while it is empty."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        place = TopicPartition(topic, partition)
        end = consumer.end_offsets([place])[place]
        if not end:
            return None
        consumer.assign([place])
        consumer.seek(place, end - 1)
        while not (polled := consumer.poll(timeout_ms=1000)):
            pass
        document: dict[str, Any] = msgspec.json.decode(polled[place][-1].value)
        return document
    finally:
        consumer.close()


def committed(bootstrap: str, group: str, topic: str, partitions: Iterable[int] = (0,)) -> dict[int, int | None]:
    """The group's committed next offsets."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    try:
        return {number: consumer.committed(TopicPartition(topic, number)) for number in partitions}
    finally:
        consumer.close()


def headers_of(record: Any) -> dict[str, str]:
    """A record's headers as text."""
    return {name: content.decode() for name, content in record.headers}
