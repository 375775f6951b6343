"""Kafka records and micro-batches for tests that need no broker, in the broker's own encoding."""

from __future__ import annotations

from collections.abc import Sequence

from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from monitor.stream.batches import MicroBatch, Segment
from monitor.stream.record_batches import RecordBatch, StoredBatch
from monitor.stream.records import Record

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
) -> Record:
    """One record, as the few see it that become a message."""
    return Record(topic, partition, offset, timestamp, key, value, tuple(headers))


def record_batch(records: Sequence[Record], *, compression: int = 0) -> RecordBatch:
    """Records as a producer sends them and a broker stores them."""
    return RecordBatch.of(StoredBatch(stored_batch(records, compression=compression)))


def stored_batch(records: Sequence[Record], *, compression: int = 0) -> DefaultRecordBatch:
    """The same before it is read; offsets may have gaps, as in a compacted topic."""
    builder = DefaultRecordBatchBuilder(2, compression, False, -1, -1, -1, 1 << 30)
    for one in records:
        builder.append(one.offset - records[0].offset, one.timestamp, one.key, one.value, list(one.headers))
    encoded = bytearray(builder.build())
    encoded[:8] = records[0].offset.to_bytes(8, "big")
    return DefaultRecordBatch(encoded)


def segment(values: Sequence[bytes | None], *, partition: int = 0, first: int = 0, epoch: int = 1) -> Segment:
    """Consecutive records of one partition."""
    records = [record(value, offset, partition=partition) for offset, value in enumerate(values, first)]
    return Segment("features", partition, epoch, [record_batch(records)])


def batch_of(*segments: Segment, closed_at: float = 0.0) -> MicroBatch:
    return MicroBatch(segments, closed_at)
