"""Micro-batches: records of one poll or several, closed when full or when the first one has waited long enough."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from monitor.stream.record_batches import RecordBatch
from monitor.stream.records import Records


@dataclass(frozen=True)
class Segment:
    """Consecutive records of one partition.

    Attributes:
        topic: of the records.
        partition: of the records.
        epoch: which assignment of the partition they were read under; offsets are committed only while it lasts.
        batches: the records, ascending by offset; never empty.
    """

    topic: str
    partition: int
    epoch: int
    batches: Sequence[RecordBatch]

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    @property
    def first_offset(self) -> int:
        """That of the first record."""
        return self.batches[0].offsets[0]

    @property
    def next_offset(self) -> int:
        """The offset to commit once these records are done: that of the next record to read."""
        return self.batches[-1].offsets[-1] + 1

    def split(self, n_rows: int) -> tuple[Segment, Segment | None]:
        """The first `n_rows` >= 1 records and the rest, None when there is none."""
        head: list[RecordBatch] = []
        tail = deque(self.batches)
        while n_rows > 0 and tail:
            batch = tail.popleft()
            if len(batch) > n_rows:
                batch, rest = batch.split(n_rows)
                tail.appendleft(rest)
            head.append(batch)
            n_rows -= len(batch)
        return replace(self, batches=head), replace(self, batches=list(tail)) if tail else None

    def since(self, offset: int) -> Segment:
        """Without the records before an offset; some must be left."""
        left = [batch for batch in self.batches if batch.offsets[-1] >= offset]
        return replace(self, batches=[left[0].since(offset), *left[1:]])


@dataclass(frozen=True)
class MicroBatch:
    """What is decoded, scored, published and committed together.

    Attributes:
        segments: in the order they were read.
        closed_at: monotonic seconds.
    """

    segments: tuple[Segment, ...]
    closed_at: float

    @property
    def n_rows(self) -> int:
        """Number of records."""
        return sum(map(len, self.segments))

    def read(self) -> Records:
        """All records, segment after segment."""
        batches = [(segment.partition, batch) for segment in self.segments for batch in segment.batches]
        return Records.read(self.segments[0].topic, batches)


@dataclass
class BatchBuilder:
    """Collects segments and cuts them into micro-batches, each closed as soon as it is due.

    Attributes:
        max_rows: closed at this many records.
        max_wait_s: or this long after the first one arrived.
        clock: monotonic seconds.
        rows: collected by now.
    """

    max_rows: int
    max_wait_s: float
    clock: Callable[[], float]
    rows: int = field(default=0, init=False)
    _segments: deque[Segment] = field(default_factory=deque)
    _opened_at: float = 0.0

    def add(self, segments: Sequence[Segment]) -> None:
        """Takes what a poll returned, which may be enough for several batches."""
        if segments and not self._segments:
            self._opened_at = self.clock()
        self._segments.extend(segments)
        self.rows += sum(map(len, segments))

    def remaining_s(self, idle_s: float) -> float:
        """Seconds until the open batch is due, at most `idle_s`; that when there is none."""
        return min(idle_s, max(0.0, self._opened_at + self.max_wait_s - self.clock())) if self._segments else idle_s

    def close_if_due(self) -> MicroBatch | None:
        """The next batch if it is full or has waited long enough."""
        if self._segments and (self.rows >= self.max_rows or self.remaining_s(self.max_wait_s) == 0.0):
            return self.close()
        return None

    def close(self) -> MicroBatch | None:
        """What was collected first, at most `max_rows` records; None when there is nothing."""
        if not self._segments:
            return None
        taken: list[Segment] = []
        room = self.max_rows
        while self._segments and room > 0:
            segment, rest = self._segments.popleft().split(room)
            if rest is not None:
                self._segments.appendleft(rest)
            taken.append(segment)
            room -= len(segment)
        self.rows -= self.max_rows - room
        return MicroBatch(segments=tuple(taken), closed_at=self.clock())

    def clear(self) -> None:
        """Forgets what was collected."""
        self._segments.clear()
        self.rows = 0
