"""Which partitions are ours, since when, and how far each is done. Asked by the loop, the delivery and the client's I/O thread.

The offset convention, once: what is committed is the *next* offset to read. Nothing is committed for a partition that was
lost or given away, not even when it came back since: every assignment of a partition has an epoch of its own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kafka import TopicPartition

from monitor.stream.batches import Segment
from monitor.stream.record_batches import RecordBatch


@dataclass(frozen=True)
class Settled:
    """How far a partition may be committed.

    Attributes:
        epoch: the assignment under which its records were polled.
        next_offset: to commit.
    """

    epoch: int
    next_offset: int


@dataclass
class _Held:
    """What we know of a partition that is assigned to us.

    Attributes:
        epoch: number of this assignment.
        unacknowledged: polled and not yet settled, oldest first.
        handed_over: next offset behind what is on its way.
        settled: next offset to commit; None when there is nothing new.
        newest_ms: Kafka timestamp of the last record polled.
    """

    epoch: int
    unacknowledged: deque[Segment] = field(default_factory=deque)
    handed_over: int = 0
    settled: int | None = None
    newest_ms: int | None = None

    def settle(self, next_offset: int) -> None:
        """Everything before an offset is done."""
        self.settled = next_offset
        while self.unacknowledged and self.unacknowledged[0].next_offset <= next_offset:
            self.unacknowledged.popleft()
        if self.unacknowledged:
            self.unacknowledged[0] = self.unacknowledged[0].since(next_offset)


class Assignment:
    """The partitions that are ours."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Any, _Held] = {}
        self._last_epoch = 0

    def add(self, partitions: Iterable[Any]) -> list[int]:
        """They are ours from now on; returns the numbers of all that are."""
        with self._lock:
            for partition in partitions:
                self._last_epoch += 1
                self._held[partition] = _Held(epoch=self._last_epoch)
            return sorted(partition.partition for partition in self._held)

    def remove(self, partitions: Iterable[Any]) -> dict[Any, Settled]:
        """They are ours no longer; returns what of them is settled and not committed."""
        with self._lock:
            settled = self._take(partitions)
            for partition in partitions:
                self._held.pop(partition, None)
        return settled

    def polled(self, partition: Any, batches: list[RecordBatch]) -> Segment:
        """Records of a partition as a segment, which `settle` is told of some time."""
        with self._lock:
            held = self._held.get(partition)
            segment = Segment(partition.topic, partition.partition, epoch=held.epoch if held else 0, batches=batches)
            if held:
                held.unacknowledged.append(segment)
                held.newest_ms = batches[-1].stored.max_timestamp_ms
        return segment

    def settle(self, segments: Iterable[Segment]) -> None:
        """Everything the segments led to is acknowledged; those of a lost partition are forgotten.

        Segments are settled in the order in which they were polled.
        """
        with self._lock:
            for segment in segments:
                held = self._holding(segment)
                if held:
                    held.settle(segment.next_offset)

    def hand_over(self, segments: Iterable[Segment]) -> None:
        """The segments are on their way from here on."""
        with self._lock:
            for segment in segments:
                held = self._holding(segment)
                if held:
                    held.handed_over = segment.next_offset

    def is_busy(self, partitions: Iterable[Any]) -> bool:
        """Whether anything of these partitions is on its way and not yet settled."""
        with self._lock:
            return any(
                held.unacknowledged[0].first_offset < held.handed_over
                for held in map(self._held.get, partitions)
                if held and held.unacknowledged
            )

    def still_ours(self, segments: Iterable[Segment]) -> tuple[Segment, ...]:
        """Those whose partitions have been ours ever since they were polled."""
        with self._lock:
            return tuple(segment for segment in segments if self._holding(segment))

    def take_settled(self) -> dict[Any, Settled]:
        """What was settled since the last time, for all partitions."""
        with self._lock:
            return self._take(self._held)

    def put_back(self, settled: Mapping[Any, Settled]) -> None:
        """It could not be committed: `take_settled` gives it again, unless more was settled or the partition lost since."""
        with self._lock:
            for partition, done in settled.items():
                held = self._held.get(partition)
                if held and held.epoch == done.epoch and held.settled is None:
                    held.settled = done.next_offset

    def oldest(self, partition: Any) -> RecordBatch | None:
        """Records that were polled first of those not yet settled."""
        with self._lock:
            held = self._held.get(partition)
            return held.unacknowledged[0].batches[0] if held and held.unacknowledged else None

    def newest_ms(self, partition: Any) -> int | None:
        """Kafka timestamp of the last record polled; None before the first one."""
        with self._lock:
            held = self._held.get(partition)
            return held.newest_ms if held else None

    def _holding(self, segment: Segment) -> _Held | None:
        """The assignment that a segment was read under, if it lasts; the caller holds the lock."""
        held = self._held.get(TopicPartition(segment.topic, segment.partition))
        return held if held and held.epoch == segment.epoch else None

    def _take(self, partitions: Iterable[Any]) -> dict[Any, Settled]:
        """The caller holds the lock."""
        settled = {}
        for partition in partitions:
            held = self._held.get(partition)
            if held and held.settled is not None:
                settled[partition], held.settled = Settled(held.epoch, held.settled), None
        return settled
