"""What is ours and how far it is done: nothing of a partition that was given away is ever committed."""

from __future__ import annotations

from kafka import TopicPartition

from monitor.stream.assignment import Assignment, Settled
from monitor.stream.batches import Segment
from monitor.stream.record_batches import RecordBatch
from tests.monitor.records import segment

ZERO, ONE = TopicPartition("features", 0), TopicPartition("features", 1)


def batches(first: int, n_rows: int = 2) -> list[RecordBatch]:
    return list(segment([b"{}"] * n_rows, first=first).batches)


def polled(assignment: Assignment, partition: TopicPartition, first: int) -> Segment:
    return assignment.polled(partition, batches(first))


def test_what_is_settled_is_taken_once() -> None:
    assignment = Assignment()
    assert assignment.add([ONE, ZERO]) == [0, 1]
    records = polled(assignment, ZERO, 10)
    assert assignment.take_settled() == {}
    assignment.settle([records])
    assert assignment.take_settled() == {ZERO: Settled(epoch=records.epoch, next_offset=12)}
    assert assignment.take_settled() == {}


def test_records_of_a_partition_that_went_and_came_back_are_not_ours_and_settle_nothing() -> None:
    assignment = Assignment()
    assignment.add([ZERO, ONE])
    lost, kept = polled(assignment, ZERO, 10), polled(assignment, ONE, 50)
    assert assignment.still_ours([lost, kept]) == (lost, kept)
    assert assignment.remove([ZERO]) == {}
    assert assignment.still_ours([lost, kept]) == (kept,)
    assignment.add([ZERO])
    assert assignment.still_ours([lost, kept]) == (kept,)
    assignment.settle([lost, kept])
    assert assignment.take_settled() == {ONE: Settled(epoch=kept.epoch, next_offset=52)}


def test_a_partition_is_given_away_with_what_is_settled_of_it() -> None:
    assignment = Assignment()
    assignment.add([ZERO, ONE])
    done = polled(assignment, ZERO, 10)
    polled(assignment, ZERO, 12)
    assignment.settle([done])
    assert assignment.remove([ZERO]) == {ZERO: Settled(epoch=done.epoch, next_offset=12)}
    assert assignment.take_settled() == {}


def test_what_could_not_be_committed_is_given_again_unless_more_was_settled_or_the_partition_lost() -> None:
    assignment = Assignment()
    assignment.add([ZERO, ONE])
    first, second, other = (polled(assignment, place, at) for place, at in ((ZERO, 10), (ZERO, 12), (ONE, 50)))
    assignment.settle([first, other])
    failed = assignment.take_settled()
    assignment.put_back(failed)
    assert assignment.take_settled() == failed
    assignment.settle([second])
    assignment.remove([ONE])
    assignment.add([ONE])
    assignment.put_back(failed)
    assert assignment.take_settled() == {ZERO: Settled(epoch=first.epoch, next_offset=14)}


def test_the_oldest_record_not_yet_settled_is_known() -> None:
    assignment = Assignment()
    assignment.add([ZERO])
    assert assignment.oldest(ZERO) is None
    assert assignment.newest_ms(ZERO) is None
    first, second = polled(assignment, ZERO, 10), polled(assignment, ZERO, 12)
    assert assignment.oldest(ZERO) is first.batches[0]
    assignment.settle([first])
    oldest = assignment.oldest(ZERO)
    assert oldest is not None
    assert oldest.offsets[0] == second.first_offset
    assert assignment.newest_ms(ZERO) == second.batches[-1].stored.max_timestamp_ms


def test_a_partition_is_busy_from_handing_over_until_all_of_that_is_settled() -> None:
    assignment = Assignment()
    assignment.add([ZERO, ONE])
    first, second = polled(assignment, ZERO, 10), polled(assignment, ZERO, 12)
    assert not assignment.is_busy([ZERO, ONE])
    assignment.hand_over([first])
    assert assignment.is_busy([ZERO, ONE])
    assert not assignment.is_busy([ONE])
    assignment.settle([first])
    assert not assignment.is_busy([ZERO])  # the second one waits for its turn, which does not come
    assignment.hand_over([second])
    assignment.remove([ZERO])
    assert not assignment.is_busy([ZERO])
