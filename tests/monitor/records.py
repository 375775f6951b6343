"""Kafka records and micro-batches for tests that need no broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kafka.consumer.fetcher import ConsumerRecord

from monitor.stream.batches import MicroBatch, Segment

TIMESTAMP_MS = 1772366400123  # 2026-03-01T12:00:00.123Z


def record(
    value: bytes | None,
    offset: int = 0,
    *,
    topic: str = "features",
    partition: int = 0,
    key: bytes | None = None,
    timestamp: int = TIMESTAMP_MS,
    headers: Sequence[tuple[str, bytes | None]] = (),
) -> Any:
    """A record as kafka-python hands it over."""
    size = -1 if value is None else len(value)
    return ConsumerRecord(topic, partition, 0, offset, timestamp, 0, key, value, list(headers), None, -1, size, -1)


def segment(values: Sequence[bytes | None], *, partition: int = 0, first: int = 0, epoch: int = 1) -> Segment:
    """Consecutive records of one partition."""
    records = [record(value, offset, partition=partition) for offset, value in enumerate(values, first)]
    return Segment("features", partition, epoch, records)


def batch_of(*segments: Segment, closed_at: float = 0.0) -> MicroBatch:
    return MicroBatch(segments, closed_at)
