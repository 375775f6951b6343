"""Record batches read whole give what kafka-python reads record by record, and a broken one gives its error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from monitor.stream.record_batches import RecordBatch, StoredBatch, UnreadableBatchError, poll_record_batches
from monitor.stream.records import Record, Records
from tests.monitor.records import TIMESTAMP_MS, record, record_batch, stored_batch

PARTITION = TopicPartition("features", 3)
CODECS = {"none": 0, "gzip": 1, "lz4": 3, "zstd": 4}

contents = st.one_of(st.none(), st.binary(max_size=300), st.just(b"x" * 9001))
record_lists = st.lists(
    st.tuples(
        contents,
        contents,
        st.integers(0, 1 << 40),
        st.lists(st.tuples(st.text(max_size=9), contents), max_size=3),
        st.integers(1, 3),  # the step to the next offset; above 1 as in a compacted topic
    ),
    min_size=1,
    max_size=20,
)


def made_of(drawn: Sequence[Any], first: int = 1_000_000) -> list[Record]:
    offsets = first + np.concatenate([[0], np.cumsum([step for *_, step in drawn])])
    return [
        record(value, int(offset), partition=3, key=key, timestamp=timestamp, headers=headers)
        for offset, (key, value, timestamp, headers, _) in zip(offsets, drawn, strict=False)
    ]


def taken_by_client(stored: bytes, fetch_offset: int) -> list[Record]:
    """What kafka-python makes of a fetched partition."""
    part = Fetcher.PartitionRecords(fetch_offset, PARTITION, MemoryRecords(stored))
    return [
        Record(own.topic, own.partition, own.offset, own.timestamp, own.key, own.value, tuple(own.headers))
        for own in part.take(None)
    ]


def part_of(stored: bytes, fetch_offset: int) -> Any:
    """The same partition as our consumer sees it."""

    class Consumer:
        class _fetcher:  # noqa: N801 - as the client calls it
            PartitionRecords: Any = None

    poll_record_batches(Consumer)
    return Consumer._fetcher.PartitionRecords(fetch_offset, PARTITION, MemoryRecords(stored))


def as_records(batches: Sequence[RecordBatch]) -> list[Record]:
    if not batches:
        return []
    columns = Records.read("features", [(3, batch) for batch in batches])
    rows = [columns[row] for row in range(len(columns))]
    return [Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in rows]


@given(record_lists, record_lists, st.sampled_from(sorted(CODECS)), st.integers(0, 80), st.integers(1, 30))
def test_any_records_are_read_as_the_client_reads_them(
    first: Any, second: Any, codec: str, behind: int, at_once: int
) -> None:
    one = made_of(first)
    two = made_of(second, first=one[-1].offset + 5)
    stored = b"".join(bytes(stored_batch(part, compression=CODECS[codec])._buffer) for part in (one, two))
    fetch_offset = one[0].offset + behind
    expected = taken_by_client(stored, fetch_offset)
    part = part_of(stored, fetch_offset)
    batches: list[RecordBatch] = []
    while part:
        taken = part.take(at_once)
        assert len(taken) == sum(map(len, taken)) <= at_once
        batches += taken
    assert as_records(batches) == expected
    assert part.next_fetch_offset == two[-1].offset + 1


@pytest.mark.parametrize("key", [None, b"k", b"k" * 200])
def test_what_stands_between_values_leaves_each_on_a_line_of_its_own(key: bytes | None) -> None:
    values = [b'{"v": 1}', b'{"v": 22}', b'{"v": 333}']
    own = [record(value, offset, key=key, headers=[("a\n", b"\n")]) for offset, value in enumerate(values)]
    columns = Records.read("features", [(0, RecordBatch.of(StoredBatch(stored_batch(own))))])
    assert [line.strip(b" ") for line in columns.values.text.split(b"\n")] == values
    assert [columns[row].headers for row in range(3)] == [[("a\n", b"\n")]] * 3


def test_a_time_set_by_the_broker_is_that_of_every_record() -> None:
    encoded = bytearray(stored_batch([record(b"a", 7), record(b"b", 8)])._buffer)
    encoded[22] |= DefaultRecordBatch.TIMESTAMP_TYPE_MASK
    encoded[35:43] = (TIMESTAMP_MS + 500).to_bytes(8, "big")
    batch = RecordBatch.of(StoredBatch(DefaultRecordBatch(encoded)))
    assert [own.timestamp for own in as_records([batch])] == [TIMESTAMP_MS + 500] * 2
    assert batch.stored.max_timestamp_ms == TIMESTAMP_MS + 500


@pytest.mark.parametrize("magic", [0, 1])
def test_batches_of_old_formats_are_read_as_the_client_reads_them(magic: int) -> None:
    builder = MemoryRecordsBuilder(magic, compression_type=1, batch_size=1 << 20)
    for number in range(5):
        builder.append(timestamp=TIMESTAMP_MS + number, key=b"k%d" % number, value=None if number == 2 else b"v")
    builder.close()
    stored = bytes(builder.buffer())
    expected = [own._asdict() for own in Fetcher.PartitionRecords(1, PARTITION, MemoryRecords(stored)).take(None)]
    found = as_records(list(part_of(stored, 1).take(None)))
    assert [(r.offset, r.key, r.value, r.timestamp) for r in found] == [
        (own["offset"], own["key"], own["value"], own["timestamp"] or 0) for own in expected
    ]


def test_a_batch_without_records_moves_the_position_on() -> None:
    empty = bytearray(stored_batch([record(b"x", 10)])._buffer[:61])
    empty[8:12] = (len(empty) - 12).to_bytes(4, "big")
    empty[57:61] = (0).to_bytes(4, "big")
    empty[17:21] = DefaultRecordBatch(empty).crc.to_bytes(4, "big")
    checked = Fetcher.PartitionRecords  # its checksum is wrong, and not what this is about
    part = part_of(bytes(empty) + bytes(stored_batch([record(b"y", 11)])._buffer), 10)
    part.check_crcs = False
    assert issubclass(type(part), checked)
    assert [own.offset for own in as_records(list(part.take(None)))] == [11]
    assert part.next_fetch_offset == 12


def test_a_wrong_checksum_is_an_error_after_the_records_before_it() -> None:
    good = bytes(stored_batch([record(b"a", 0), record(b"b", 1)])._buffer)
    bad = bytearray(stored_batch([record(b"c", 2)])._buffer)
    bad[-2] ^= 1
    part = part_of(good + bytes(bad), 0)
    assert [own.value for own in as_records(list(part.take(100)))] == [b"a", b"b"]
    assert part.next_fetch_offset == 2
    with pytest.raises(UnreadableBatchError, match="CRC") as caught:
        part.take(100)
    assert (caught.value.partition, caught.value.offset, caught.value.next_offset) == (PARTITION, 2, 3)
    assert not part  # or the client would ask it again for ever


def test_where_a_damaged_batch_ends_is_told_by_the_next_one() -> None:
    bad = bytearray(stored_batch([record(b"a", 0), record(b"b", 1)])._buffer)
    bad[23:27] = (1_000_000).to_bytes(4, "big")  # the place of its last record, says its own header
    part = part_of(bytes(bad) + bytes(stored_batch([record(b"c", 2)])._buffer), 0)
    with pytest.raises(UnreadableBatchError) as caught:
        part.take(100)
    assert caught.value.next_offset == 2


def test_a_batch_whose_codec_is_not_installed_is_an_error_that_names_the_package() -> None:
    snappy = bytearray(stored_batch([record(b"a", 5)])._buffer)
    snappy[22] |= DefaultRecordBatch.CODEC_SNAPPY
    part = part_of(bytes(snappy), 5)
    part.check_crcs = False
    with pytest.raises(UnreadableBatchError, match="pip install python-snappy"):
        part.take(100)


def test_records_whose_lengths_do_not_add_up_are_an_error() -> None:
    encoded = bytearray(stored_batch([record(b"abc", 0), record(b"def", 1)])._buffer)
    with pytest.raises(CorruptRecordError, match="end at byte"):
        StoredBatch(DefaultRecordBatch(encoded + b"\0")).read()
    with pytest.raises(CorruptRecordError, match=r"cut off|end at byte"):
        StoredBatch(DefaultRecordBatch(encoded[:-3])).read()


def test_a_value_that_reaches_beyond_its_record_is_an_error() -> None:
    batch = record_batch([record(b"abc", 0), record(b"def", 1)])
    stored = batch.stored
    stored._records = stored._records.replace(b"\x06abc", bytes([2 * 60]) + b"abc")
    with pytest.raises(CorruptRecordError, match="beyond the end"):
        as_records([batch])
