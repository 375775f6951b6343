"""Micro-batches: closed when full, or when the first record has waited long enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from monitor.stream.batches import BatchBuilder
from tests.monitor.records import batch_of, segment


@dataclass
class Clock:
    """Monotonic seconds that a test moves."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def builder(clock: Clock) -> BatchBuilder:
    return BatchBuilder(max_rows=5, max_wait_s=2.0, clock=clock)


def test_a_full_batch_is_closed_at_once(builder: BatchBuilder, clock: Clock) -> None:
    builder.add([segment([b"1", b"2"])])
    assert builder.close_if_due() is None
    builder.add([segment([b"3", b"4", b"5"], first=2)])
    batch = builder.close_if_due()
    assert batch is not None
    assert (batch.n_rows, batch.closed_at) == (5, clock.now)
    assert [record.value for record in batch.read()] == [b"1", b"2", b"3", b"4", b"5"]


def test_a_batch_is_closed_when_its_first_record_has_waited_long_enough(builder: BatchBuilder, clock: Clock) -> None:
    clock.now = 150.0  # long after the builder was made: only the first record starts the time
    builder.add([segment([b"1"])])
    clock.now = 151.9
    builder.add([segment([b"2"], first=1)])
    assert builder.close_if_due() is None
    clock.now = 152.0
    batch = builder.close_if_due()
    assert batch is not None
    assert batch.n_rows == 2


def test_the_time_of_the_next_batch_starts_with_its_own_first_record(builder: BatchBuilder, clock: Clock) -> None:
    builder.add([segment([b"1"] * 5)])
    assert builder.close_if_due() is not None
    clock.now += 60
    builder.add([segment([b"2"], first=5)])
    assert builder.close_if_due() is None
    assert builder.remaining_s(10.0) == 2.0


def test_an_empty_poll_opens_no_batch(builder: BatchBuilder, clock: Clock) -> None:
    builder.add([])
    clock.now += 60
    assert (builder.close_if_due(), builder.close()) == (None, None)


def test_the_remaining_time_is_that_of_the_open_batch_and_never_longer_than_idle(
    builder: BatchBuilder, clock: Clock
) -> None:
    assert builder.remaining_s(0.25) == 0.25
    builder.add([segment([b"1"])])
    assert builder.remaining_s(0.25) == 0.25
    assert builder.remaining_s(10.0) == 2.0
    clock.now += 1.9
    assert builder.remaining_s(0.25) == pytest.approx(0.1)
    clock.now += 5
    assert builder.remaining_s(0.25) == 0.0


def test_what_was_collected_can_be_closed_early(builder: BatchBuilder) -> None:
    builder.add([segment([b"1"], partition=3), segment([b"2"], partition=1)])
    batch = builder.close()
    assert batch is not None
    assert [part.partition for part in batch.segments] == [3, 1]
    assert builder.close() is None


def test_a_poll_that_brings_more_is_cut_into_batches_and_the_rest_waits(builder: BatchBuilder, clock: Clock) -> None:
    values = [b"%d" % number for number in range(13)]
    builder.add([segment(values[:9], partition=1), segment(values[9:], partition=2, first=9)])
    first, second = builder.close_if_due(), builder.close_if_due()
    assert first is not None
    assert second is not None
    assert [(part.partition, part.first_offset, part.next_offset) for part in first.segments] == [(1, 0, 5)]
    assert [(part.partition, part.first_offset, part.next_offset) for part in second.segments] == [
        (1, 5, 9),
        (2, 9, 10),
    ]
    assert [record.value for record in [*first.read(), *second.read()]] == values[:10]
    assert builder.close_if_due() is None
    clock.now += 2.0
    rest = builder.close_if_due()
    assert rest is not None
    assert [record.value for record in rest.read()] == values[10:]
    assert builder.close() is None


def test_what_was_collected_can_be_forgotten(builder: BatchBuilder) -> None:
    builder.add([segment([b"x"] * 9)])
    builder.clear()
    assert builder.close() is None
    builder.add([segment([b"y"] * 5, first=20)])
    batch = builder.close_if_due()
    assert batch is not None
    assert batch.n_rows == 5


def test_a_segment_can_be_shortened_at_its_front() -> None:
    part = segment([b"0", b"1", b"2", b"3"], first=40)
    assert (part.since(42).first_offset, len(part.since(42)), part.since(42).next_offset) == (42, 2, 44)
    assert part.since(40) == part


def test_the_offset_to_commit_is_the_next_one_to_read() -> None:
    part = segment([b"1", b"2", b"3"], first=41)
    assert part.next_offset == 44
    np.testing.assert_array_equal(batch_of(part).read().offsets, [41, 42, 43])
