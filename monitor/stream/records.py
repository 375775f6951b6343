"""The records of a micro-batch side by side: keys, values, coordinates as columns, read from the broker's encoding at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from kafka.errors import CorruptRecordError
from kafka.record.util import decode_varint
from numpy.typing import NDArray

from monitor.model.raw_values import RawValues
from monitor.stream.record_batches import RecordBatch

_LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True)
class Record:
    """One record, for the few that become a message.

    Attributes:
        topic: it was read from.
        partition: it was read from.
        offset: its place there.
        timestamp: milliseconds since 1970, Kafka's.
        key: None when it has none.
        value: None when it has none.
        headers: names and contents, as they came.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


@dataclass(frozen=True)
class Records:
    """Records of one topic as columns of n rows.

    Attributes:
        topic: they were read from.
        keys: of the records.
        values: of the records.
        header_places: int64, where each record's headers begin in the buffer of the values.
        ends: int64, where they and with them the record end.
        partitions: int64.
        offsets: int64.
        timestamps_ms: int64, Kafka's.
    """

    topic: str
    keys: RawValues
    values: RawValues
    header_places: NDArray[np.int64]
    ends: NDArray[np.int64]
    partitions: NDArray[np.int64]
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]

    @classmethod
    def read(cls, topic: str, batches: Sequence[tuple[int, RecordBatch]]) -> Records:
        """Reads what stands in record batches.

        Args:
            topic: of all of them.
            batches: each with its partition.

        Raises:
            kafka.errors.CorruptRecordError: a record's fields do not fit into it.
        """
        counts = np.array([len(batch) for _, batch in batches], dtype=np.int64)
        buffer, starts, ends = _joined([batch for _, batch in batches])
        deltas, places = _varints(buffer, starts + 1)  # behind the attributes
        _, places = _varints(buffer, places)  # how far the offset is from the batch's first
        keys, places = _strings(buffer, places)
        values, places = _strings(buffer, places)
        if (places >= ends).any():
            raise CorruptRecordError("a key or value reaches beyond the end of its record")
        bases = np.array([batch.stored.first_timestamp_ms for _, batch in batches], dtype=np.int64)
        timestamps = np.repeat(bases, counts) + deltas
        appended = np.array([batch.stored.append_time_ms or -1 for _, batch in batches], dtype=np.int64).repeat(counts)
        return cls(
            topic=topic,
            keys=keys,
            values=values,
            header_places=places,
            ends=ends,
            partitions=np.repeat(np.array([partition for partition, _ in batches], dtype=np.int64), counts),
            offsets=_flat([batch.offsets for _, batch in batches], int(counts.sum())),
            timestamps_ms=np.where(appended >= 0, appended, timestamps),
        )

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, row: int) -> Record:
        return Record(
            topic=self.topic,
            partition=int(self.partitions[row]),
            offset=int(self.offsets[row]),
            timestamp=int(self.timestamps_ms[row]),
            key=self.keys[row],
            value=self.values[row],
            headers=self._headers(row),
        )

    def _headers(self, row: int) -> list[tuple[str, bytes | None]]:
        return _read_headers(self.values.buffer[self.header_places[row] : self.ends[row]].tobytes())


def _joined(
    batches: Sequence[RecordBatch],
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """The bytes of all records one after another, where each begins, and a place behind each, at most its length prefix away."""
    pieces, starts, ends = [], [], []
    position = 0
    for batch in batches:
        buffer, places = batch.read()
        shifted = np.array(places, dtype=np.int64) + (position - places[0])
        pieces.append(memoryview(buffer)[places[0] : places[-1]])
        starts.append(shifted[:-1])
        ends.append(shifted[1:])
        position += places[-1] - places[0]
    return np.frombuffer(b"".join(pieces), dtype=np.uint8), np.concatenate(starts), np.concatenate(ends)


def _flat(parts: Sequence[Sequence[int]], count: int) -> NDArray[np.int64]:
    return np.fromiter(chain.from_iterable(parts), dtype=np.int64, count=count)


def _strings(buffer: NDArray[np.uint8], places: NDArray[np.int64]) -> tuple[RawValues, NDArray[np.int64]]:
    """Byte strings with their length before them, -1 for none; and where they end."""
    sizes, starts = _varints(buffer, places)
    return RawValues(buffer, starts, starts + sizes), starts + np.maximum(sizes, 0)


def _varints(octets: NDArray[np.uint8], places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The zigzag varint at each place, and the place behind it."""
    octet = octets.take(places, mode="clip")  # beyond the end only where the record is corrupt, which shows later
    values = (octet & 0x7F).astype(np.int64)
    behind = places + 1
    unfinished = np.flatnonzero(octet & 0x80)
    for shift in range(7, 7 * _LONGEST_VARINT, 7):
        if not len(unfinished):
            break
        octet = octets.take(behind[unfinished], mode="clip")
        values[unfinished] |= (octet & 0x7F).astype(np.int64) << shift
        behind[unfinished] += 1
        unfinished = unfinished[(octet & 0x80).astype(np.bool_)]
    return (values >> 1) ^ -(values & 1), behind


def _read_headers(buffer: bytes) -> list[tuple[str, bytes | None]]:
    """Names and contents of a record's headers, which take all of the buffer."""
    count, place = decode_varint(buffer)
    headers = []
    for _ in range(count):
        size, place = decode_varint(buffer, place)
        name, place = buffer[place : place + size].decode(), place + size
        size, place = decode_varint(buffer, place)
        headers.append((name, buffer[place : place + size] if size >= 0 else None))
        place += max(0, size)
    return headers
