"""Kafka's record batches as they are stored: polled whole, still compressed, and read later in the thread that judges them.

kafka-python makes an object of every record, which costs five microseconds; here a whole batch costs about as much.
Everything else stays the client's: connections, fetch sessions, checksums, aborted transactions, positions.
The layout is message format v2 (Kafka's documentation, "Implementation / Message Format / Record Batch").
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from kafka import codec
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError, UnsupportedCodecError
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.util import decode_varint

_FORMAT = 2
# Without the header, whose meaning is the client's affair.
_DECOMPRESS: dict[int, Callable[[bytes], bytes]] = {
    DefaultRecordBatch.CODEC_NONE: lambda records: records,
    DefaultRecordBatch.CODEC_GZIP: codec.gzip_decode,
    DefaultRecordBatch.CODEC_SNAPPY: codec.snappy_decode,
    DefaultRecordBatch.CODEC_LZ4: codec.lz4_decode,
    DefaultRecordBatch.CODEC_ZSTD: codec.zstd_decode,
}


class UnreadableBatchError(CorruptRecordError):  # type: ignore[misc]
    """A record batch that is damaged, or compressed in a way for which no library is there.

    Attributes:
        partition: it stands in.
        offset: of its first record.
        next_offset: of the first record behind it.
        problem: what is wrong with it.
    """

    def __init__(self, partition: Any, offset: int, next_offset: int, problem: str) -> None:
        self.partition = partition
        self.offset = offset
        self.next_offset = next_offset
        self.problem = problem
        super().__init__(f"record batch at offset {offset} of {partition.topic}/{partition.partition}: {problem}")


class StoredBatch:
    """One batch as the broker stores it; several threads may read it.

    Attributes:
        offsets: of its records, ascending; with gaps where the topic was compacted.
        first_timestamp_ms: of the first record, and what the other timestamps are relative to.
        max_timestamp_ms: the newest one.
        append_time_ms: the timestamp of all of them where the broker sets it; None where each has its own.
    """

    def __init__(self, batch: DefaultRecordBatch) -> None:
        """Takes the batch over from the client.

        Raises:
            kafka.errors.UnsupportedCodecError: it is compressed in a way for which no library is there.
        """
        self._codec = batch.compression_type
        if self._codec != batch.CODEC_NONE:
            batch._assert_has_codec(self._codec)  # noqa: SLF001 - the client's own words when a library is missing
        self._records = bytes(memoryview(batch._buffer)[batch.HEADER_STRUCT.size :])  # noqa: SLF001
        self.first_timestamp_ms: int = batch.first_timestamp
        self.max_timestamp_ms: int = batch.max_timestamp
        self.append_time_ms: int | None = batch.max_timestamp if batch.timestamp_type == batch.LOG_APPEND_TIME else None
        count = batch.records_count
        self.offsets: Sequence[int] = range(batch.base_offset, batch.base_offset + count)
        if batch.last_offset_delta != count - 1:
            buffer, places = self.read()
            self.offsets = [batch.base_offset + _offset_delta(buffer, place) for place in places[:-1]]

    def read(self) -> tuple[bytes, list[int]]:
        """A buffer with the records, and in it where each begins behind its length prefix, and where the last one ends.

        Nothing is kept, so that batches which wait for their turn take no more memory than on the wire.

        Raises:
            kafka.errors.CorruptRecordError: the lengths of its records do not add up.
        """
        buffer = _DECOMPRESS[self._codec](self._records)
        return buffer, _places(buffer, len(self.offsets))


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records of one stored batch.

    Attributes:
        stored: which holds them.
        first: number of the first one in it.
        stop: number behind that of the last one.
    """

    stored: StoredBatch
    first: int
    stop: int

    @classmethod
    def of(cls, stored: StoredBatch) -> RecordBatch:
        """All records of a stored batch."""
        return cls(stored, 0, len(stored.offsets))

    def __len__(self) -> int:
        return self.stop - self.first

    @property
    def offsets(self) -> Sequence[int]:
        """Of its records, ascending."""
        return self.stored.offsets[self.first : self.stop]

    def split(self, n_rows: int) -> tuple[RecordBatch, RecordBatch]:
        """The first `n_rows` records and the rest."""
        middle = self.first + n_rows
        return RecordBatch(self.stored, self.first, middle), RecordBatch(self.stored, middle, self.stop)

    def since(self, offset: int) -> RecordBatch:
        """Without the records before an offset: a broker sends the whole batch in which the wanted record stands."""
        before = sum(own < offset for own in self.offsets) if self.offsets[0] < offset else 0
        return self.split(before)[1]

    def read(self) -> tuple[bytes, Sequence[int]]:
        """A buffer and where in it the records stand, as `StoredBatch.read`."""
        buffer, places = self.stored.read()
        return buffer, places[self.first : self.stop + 1]


def poll_record_batches(consumer: Any) -> None:
    """Makes `consumer.poll` return lists of `RecordBatch`, which still count as their records towards `max_records`."""
    consumer._fetcher.PartitionRecords = _PartitionBatches  # noqa: SLF001 - looked up there for each fetched partition


class _PartitionBatches(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What was fetched from one partition. The client walks over it as ever, a batch where it would find a record."""

    def __init__(self, fetch_offset: int, tp: Any, records: Any, **options: Any) -> None:
        super().__init__(fetch_offset, tp, _Batches(records, fetch_offset, tp), **options)
        self._rest: RecordBatch | None = None
        self._next_inline_exception: Exception | None = None  # as the client calls it

    def take(self, n: int | None = None) -> _Taken:
        """At most `n` records; the position is then that of the next one.

        Raises:
            UnreadableBatchError: that is what comes next. Nothing is left here then: the client would ask again for ever.
        """
        if self._next_inline_exception:
            self._give_up(self._next_inline_exception)
        taken = _Taken()
        batches = self.record_iterator
        try:
            while n is None or len(taken) < n:
                batch = self._rest if self._rest is not None else next(batches).value
                self._rest = None
                if n is not None and len(batch) > n - len(taken):
                    batch, self._rest = batch.split(n - len(taken))
                taken.append(batch)
                self.next_fetch_offset = self._rest.offsets[0] if self._rest else batch.offsets[-1] + 1
        except StopIteration:
            pass
        except Exception as error:
            if not len(taken):
                self._give_up(error)
            self._next_inline_exception = error  # raised by the next call, as the client does
        return taken

    def _give_up(self, error: Exception) -> NoReturn:
        self.drain()
        raise error


class _Taken:
    """Batches that count as their records."""

    def __init__(self) -> None:
        self._batches: list[RecordBatch] = []
        self._n_records = 0

    def append(self, batch: RecordBatch) -> None:
        self._batches.append(batch)
        self._n_records += len(batch)

    def __len__(self) -> int:
        return self._n_records

    def __iter__(self) -> Iterator[RecordBatch]:
        return iter(self._batches)


class _Batches:
    """The batches of a fetch, each of which gives itself instead of its records."""

    def __init__(self, batches: Any, first_offset: int, partition: Any) -> None:
        self._batches = batches
        self._first_offset = first_offset
        self._partition = partition

    def next_batch(self) -> _BatchOfOne | None:
        """The next one; None at the end."""
        batch = self._batches.next_batch()
        return None if batch is None else _BatchOfOne(batch, self._first_offset, self._unreadable)

    def _unreadable(self, batch: Any, problem: str) -> UnreadableBatchError:
        """Where the next batch begins is the better witness: the header of a damaged one may be damaged, too."""
        following = self._batches._next_slice  # noqa: SLF001
        behind = batch.next_offset if following is None else int.from_bytes(following[:8], "big")
        first: int = batch.base_offset
        return UnreadableBatchError(self._partition, first, max(first + 1, behind), problem)


class _BatchOfOne:
    """One batch to the client: what it asks of the header is answered as before, but there is only one record in it."""

    def __init__(self, batch: Any, first_offset: int, unreadable: Callable[[Any, str], UnreadableBatchError]) -> None:
        self._batch = batch
        self._first_offset = first_offset
        self._unreadable = unreadable

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)  # the marker in a control batch, which the client reads itself

    def validate_crc(self) -> bool:
        """True.

        Raises:
            UnreadableBatchError: the checksum is another one.
        """
        if not self._batch.validate_crc():
            raise self._unreadable(self._batch, "its checksum (CRC) is wrong, so the broker's disk or file is damaged")
        return True

    def __iter__(self) -> Iterator[_BatchAsRecord]:
        try:
            stored = StoredBatch(self._batch) if self._batch.magic >= _FORMAT else _rewritten(self._batch)
        except (CorruptRecordError, UnsupportedCodecError) as error:
            raise self._unreadable(self._batch, _remedy(error)) from error
        if len(stored.offsets):
            yield _BatchAsRecord(RecordBatch.of(stored).since(self._first_offset), self._batch.size_in_bytes)


@dataclass(frozen=True, slots=True)
class _BatchAsRecord:
    """What the client asks of a record."""

    value: RecordBatch
    size_in_bytes: int
    key: None = None
    headers: tuple[()] = ()
    timestamp: int = -1
    timestamp_type: int = -1
    checksum: None = None

    @property
    def offset(self) -> int:
        """Of the last record: the client goes on behind it, and skips the batch when it wants later ones."""
        return self.value.stored.offsets[-1]

    def validate_crc(self) -> bool:
        """The checksum is that of the batch, and was compared."""
        return True


def _remedy(error: Exception) -> str:
    """The client's words, with what to do where that is known."""
    return (
        f"{error.args[0]}; `pip install python-snappy` where it is snappy"
        if isinstance(error, UnsupportedCodecError)
        else str(error)
    )


def _places(buffer: bytes, count: int) -> list[int]:
    """Where records begin behind their length prefixes, and where the last one ends: count + 1 positions."""
    places = []
    position = 0
    try:
        for _ in range(count):
            length = buffer[position]
            if length < 128:  # lengths are zigzag varints: twice the length, 7 bits an octet, the lowest first
                position += 1
            elif (second := buffer[position + 1]) < 128:
                length = length & 127 | second << 7
                position += 2
            else:
                length, position = decode_varint(buffer, position)
                length = 2 * max(0, length)
            places.append(position)
            position += length >> 1
    except (IndexError, ValueError) as error:
        raise CorruptRecordError(f"record {len(places)} of {count} is cut off: {error!r}") from error
    if position != len(buffer):
        raise CorruptRecordError(f"{count} records end at byte {position} of {len(buffer)}")
    places.append(position)
    return places


def _offset_delta(buffer: bytes, place: int) -> int:
    """How far behind the first offset of its batch a record stands."""
    _, delta = decode_varint(buffer, place + 1)  # behind the attributes and the time
    return int(decode_varint(buffer, delta)[0])


def _rewritten(batch: Any) -> StoredBatch:
    """A batch of the formats 0 and 1, which brokers before Kafka 4 may still hold, in today's format."""
    builder = DefaultRecordBatchBuilder(_FORMAT, 0, False, -1, -1, -1, batch_size=sys.maxsize)
    offsets = []
    for place, record in enumerate(batch):
        builder.append(place, record.timestamp or 0, record.key, record.value, list(record.headers))
        offsets.append(record.offset)
    stored = StoredBatch(DefaultRecordBatch(builder.build()))
    stored.offsets = offsets
    return stored
