"""A time range of the features topic, read by a group of its own: no member of any group, no offset of the live one touched."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from monitor.errors import BrokerError
from monitor.replay.progress import PartitionProgress, until
from monitor.settings import Settings
from monitor.stream.batches import MicroBatch, Segment
from monitor.stream.broker import client_options
from monitor.stream.record_batches import poll_record_batches
from monitor.stream.topic_reader import TimeRange, range_offsets

POLL_S = 0.2
SILENCE_S = 60.0


@dataclass
class History:
    """The range and how far it has been read.

    Attributes:
        settings: of the stream; `group_id` is that of the replay.
        window: the range.
        progress: by partition, as it was committed last or begins now.
        resumed: whether an earlier run had begun.
    """

    settings: Settings
    window: TimeRange
    progress: dict[int, PartitionProgress] = field(default_factory=dict)
    resumed: bool = False
    _consumer: Any = None
    _silent_since: float = 0.0
    _lost: dict[int, int] = field(default_factory=dict)

    def open(self, *, anew: bool) -> None:
        """Connects, and finds where to begin: where an earlier run ended, unless `anew`.

        Raises:
            BrokerError: no broker, no access, no topic.
        """
        from kafka import KafkaConsumer, TopicPartition

        topic = self.settings.features_topic
        self._consumer = KafkaConsumer(
            **client_options(self.settings),
            group_id=self.settings.group_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            allow_auto_create_topics=False,
            isolation_level="read_committed",
            max_poll_records=self.settings.max_rows,
            fetch_max_bytes=self.settings.fetch_max_bytes,
            max_partition_fetch_bytes=self.settings.fetch_max_bytes,
            metrics_enabled=False,
        )
        poll_record_batches(self._consumer)
        partitions = [
            TopicPartition(topic, number) for number in sorted(self._consumer.partitions_for_topic(topic) or ())
        ]
        if not partitions:
            raise BrokerError(self.settings.bootstrap_servers, f"no topic {topic!r}")
        begun = {} if anew else {part: self._committed(part) for part in partitions}
        spans = range_offsets(self._consumer, partitions, self.window)
        self._consumer.assign(partitions)
        for partition in partitions:
            progress, offset = begun.get(partition) or (None, 0)
            self.resumed |= progress is not None
            start, end = spans[partition]
            self.progress[partition.partition] = progress or PartitionProgress(start=start, end=end)
            self._consumer.seek(partition, start if progress is None else offset)
        for partition in partitions:  # once all have a position: asking for one would look up those that lack it
            self._pause_if_done(partition)
        self._silent_since = time.monotonic()

    def _committed(self, partition: Any) -> tuple[PartitionProgress, int] | None:
        found = self._consumer.committed(partition, metadata=True)
        progress = None if found is None else PartitionProgress.from_metadata(found.metadata)
        return None if progress is None else (progress, found.offset)

    @property
    def exhausted(self) -> bool:
        """Whether everything was read."""
        return all(
            self._consumer.position(partition) >= self.progress[partition.partition].end
            for partition in self._consumer.assignment()
        )

    @property
    def n_left(self) -> int:
        """Offsets that were not read yet, gaps included."""
        return sum(
            max(0, self.progress[partition.partition].end - self._consumer.position(partition))
            for partition in self._consumer.assignment()
        )

    def poll(self) -> MicroBatch | None:
        """The next records of the range; None when none came.

        Raises:
            BrokerError: nothing has come for a minute.
        """
        from kafka.errors import OffsetOutOfRangeError

        try:
            polled = self._consumer.poll(timeout_ms=int(POLL_S * 1000), max_records=self.settings.max_rows)
        except OffsetOutOfRangeError as error:
            self._skip_deleted(error.args[0])
            return None
        segments = []
        for partition, batches in polled.items():
            segment = Segment(partition.topic, partition.partition, epoch=0, batches=batches)
            wanted = until(segment, self.progress[partition.partition].end)
            segments += [wanted] if wanted is not None else []
            self._pause_if_done(partition)
        if polled:
            self._silent_since = time.monotonic()
        elif time.monotonic() - self._silent_since > SILENCE_S:
            raise BrokerError(
                self.settings.bootstrap_servers,
                f"sent nothing for {SILENCE_S:.0f} s, {self.n_left} records are left; the same command goes on with them",
            )
        return MicroBatch(tuple(segments), closed_at=time.monotonic()) if segments else None

    def _pause_if_done(self, partition: Any) -> None:
        if self._consumer.position(partition) >= self.progress[partition.partition].end:
            self._consumer.pause(partition)

    def _skip_deleted(self, lost: Mapping[Any, int]) -> None:
        """Goes on with the oldest record that is still there."""
        for partition, position in lost.items():
            end = self.progress[partition.partition].end
            oldest = min(end, self._consumer.beginning_offsets([partition])[partition])
            number = partition.partition
            self._lost[number] = self._lost.get(number, 0) + max(0, oldest - position)
            self._consumer.seek(partition, oldest)
            self._pause_if_done(partition)

    def take_skipped(self) -> dict[int, int]:
        """Records that were deleted before they were read, since the last call."""
        lost, self._lost = self._lost, {}
        return lost

    def commit(self, next_offsets: Mapping[int, int]) -> None:
        """Commits offsets with the whole progress beside them.

        Raises:
            kafka.errors.KafkaError: they could not be committed.
        """
        from kafka import OffsetAndMetadata, TopicPartition

        topic = self.settings.features_topic
        offsets = {
            TopicPartition(topic, number): OffsetAndMetadata(offset, self.progress[number].to_metadata(), -1)
            for number, offset in next_offsets.items()
        }
        self._consumer.commit(offsets, timeout_ms=int(self.settings.broker_timeout_s * 1000))

    def positions(self) -> dict[int, int]:
        """Where reading goes on."""
        return {part.partition: self._consumer.position(part) for part in self._consumer.assignment()}

    def close(self) -> None:
        """Commits nothing."""
        from kafka.errors import KafkaError

        if self._consumer is not None:
            with suppress(KafkaError):  # whatever mattered is committed
                self._consumer.close(autocommit=False, timeout_ms=2000)
