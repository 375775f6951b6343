"""The records of a micro-batch side by side: keys, values, coordinates as columns, read from the broker's encoding at once."""

from __future__ import annotations

import io
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
# Mean bytes between two values from which a loop over the gaps is cheaper than the places of all their bytes.
_WIDEST_GAP = 64


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


@dataclass(frozen=True, slots=True)
class Places:
    """Where n byte strings stand in a buffer.

    Attributes:
        starts: int64 (n,).
        ends: int64 (n,); before its start where there is none.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def moved(self, by: NDArray[np.int64]) -> Places:
        """Each so many bytes, int64 (n,), further to the front."""
        return Places(self.starts - by, self.ends - by)

    def take(self, buffer: bytes, row: int) -> bytes | None:
        """One of them; None where there is none."""
        start, end = int(self.starts[row]), int(self.ends[row])
        return buffer[start:end] if end >= start else None


@dataclass(frozen=True)
class Records:
    """Records of one topic as columns of n rows.

    Attributes:
        topic: they were read from.
        values: of the records.
        rest: what stood between the values, keys and headers among it, in order.
        keys: where each record's key stands in it; before its start it ends where there is none.
        headers: where each record's headers stand in it, and at most a length prefix behind them.
        partitions: int64.
        offsets: int64.
        timestamps_ms: int64, Kafka's.
    """

    topic: str
    values: RawValues
    rest: bytes
    keys: Places
    headers: Places
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
        buffer, records = _joined([batch for _, batch in batches])
        octets = np.frombuffer(buffer.getbuffer(), dtype=np.uint8)
        deltas, places = _varints(octets, records.starts + 1)  # behind the attributes
        _, places = _varints(octets, places)  # how far the offset is from the batch's first
        keys, places = _strings(octets, places)
        values, places = _strings(octets, places)
        if (places >= records.ends).any():
            raise CorruptRecordError("a key or value reaches beyond the end of its record")
        ends = np.maximum(values.starts, values.ends)
        rest = _cut_out(octets, values.starts, ends)
        del octets  # so that the text is not another copy
        sizes = ends - values.starts
        through = np.cumsum(sizes)  # so many bytes are gone from before what stands behind each value
        bases = np.array([batch.stored.first_timestamp_ms for _, batch in batches], dtype=np.int64)
        timestamps = np.repeat(bases, counts) + deltas
        appended = np.array([batch.stored.append_time_ms or -1 for _, batch in batches], dtype=np.int64).repeat(counts)
        return cls(
            topic=topic,
            values=RawValues(buffer.getvalue(), values.starts, values.ends),
            rest=rest,
            keys=keys.moved(through - sizes),
            headers=Places(places, records.ends).moved(through),
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
            key=self.keys.take(self.rest, row),
            value=self.values[row],
            headers=_read_headers(self.rest[self.headers.starts[row] : self.headers.ends[row]]),
        )


def _joined(batches: Sequence[RecordBatch]) -> tuple[io.BytesIO, Places]:
    """The bytes of all records one after another; where each begins, and a place behind each, at most its length prefix away."""
    pieces, starts, ends = [], [], []
    position = 0
    for batch in batches:
        buffer, places = batch.read()
        shifted = np.array(places, dtype=np.int64) + (position - places[0])
        pieces.append(memoryview(buffer)[places[0] : places[-1]])
        starts.append(shifted[:-1])
        ends.append(shifted[1:])
        position += places[-1] - places[0]
    return io.BytesIO(b"".join(pieces)), Places(np.concatenate(starts), np.concatenate(ends))


def _cut_out(octets: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> bytes:
    """Leaves only the values in `octets`, each on a line of its own; returns what stood before, between and behind them."""
    gap_starts = np.concatenate([[0], ends])
    gap_ends = np.concatenate([starts, [len(octets)]])
    sizes = gap_ends - gap_starts
    stops = np.cumsum(sizes)
    if stops[-1] > _WIDEST_GAP * len(sizes):
        gaps = list(zip(gap_starts.tolist(), gap_ends.tolist(), strict=True))
        rest = b"".join([octets.data[start:end] for start, end in gaps])
        for start, end in gaps:
            octets[start:end] = ord(" ")
    else:
        between = np.repeat(gap_starts - (stops - sizes), sizes) + np.arange(stops[-1])
        rest = octets[between].tobytes()
        octets[between] = ord(" ")
    octets[ends[:-1]] = ord("\n")
    return rest


def _flat(parts: Sequence[Sequence[int]], count: int) -> NDArray[np.int64]:
    return np.fromiter(chain.from_iterable(parts), dtype=np.int64, count=count)


def _strings(octets: NDArray[np.uint8], places: NDArray[np.int64]) -> tuple[Places, NDArray[np.int64]]:
    """Byte strings with their length before them, -1 for none; and the places behind them."""
    sizes, starts = _varints(octets, places)
    return Places(starts, starts + sizes), starts + np.maximum(sizes, 0)


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
