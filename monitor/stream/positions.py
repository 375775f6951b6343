"""Where reading begins, and where it goes on when the next record cannot be read. Every gap is counted and logged."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from monitor.errors import BrokerError
from monitor.settings import Settings
from monitor.stream.record_batches import UnreadableBatchError
from monitor.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

# The longest wait for an offset; short, since the loop does not turn meanwhile and tries again.
LOOKUP_S = 3.0


@dataclass
class Positions:
    """Moves the positions of one consumer, as the settings say.

    Attributes:
        consumer: kafka-python's.
        settings: `start_from`, `on_offset_lost`, `on_unreadable_batch`.
        metrics: count what is skipped.
    """

    consumer: Any
    settings: Settings
    metrics: Metrics
    _topic_id: Any = None

    def is_another_topic(self) -> bool:
        """Whether the topic was deleted and created anew: it counts its offsets from 0, and none that we know holds there."""
        found = self.consumer._cluster.topic_id(self.settings.features_topic)  # noqa: SLF001 - comes with the metadata
        if not found or not found.int:  # an old broker, or the topic is away at the moment
            return False
        self._topic_id = self._topic_id or found
        return bool(found != self._topic_id)

    def begin(self, partitions: Iterable[Any]) -> None:
        """First start of a group: `start_from` decides."""
        for partition, offset in self._find(self.settings.start_from, partitions).items():
            self.consumer.seek(partition, offset)
            log.info(
                "partition_begun",
                extra={"partition": partition.partition, "offset": offset, "start_from": self.settings.start_from},
            )

    def recover(self, lost: Mapping[Any, int]) -> None:
        """The broker has deleted what we were to read: `on_offset_lost` decides.

        Raises:
            BrokerError: it says `fail`.
        """
        policy = self.settings.on_offset_lost
        for partition, position in lost.items():
            if policy == "fail":
                raise BrokerError(
                    self.settings.bootstrap_servers,
                    f"offset {position} of {partition.topic}/{partition.partition} no longer exists and on_offset_lost is 'fail'",
                )
            offset = self._find(policy, [partition])[partition]
            self._skip(partition, position, offset)
            log.warning(
                "offsets_lost",
                extra={"partition": partition.partition, "wanted": position, "continues_at": offset, "policy": policy},
            )

    def pass_over(self, batch: UnreadableBatchError) -> None:
        """A record batch cannot be read: `on_unreadable_batch` decides.

        Raises:
            BrokerError: it says `fail`.
        """
        partition, policy = batch.partition, self.settings.on_unreadable_batch
        where = {"partition": partition.partition, "offset": batch.offset}
        log.warning("batch_unreadable", extra=where | {"problem": batch.problem, "policy": policy})
        if policy == "fail":
            raise BrokerError(
                self.settings.bootstrap_servers,
                f"{batch.args[0]}; on_unreadable_batch is 'fail': mend that, or set it to 'skip' to go on at offset {batch.next_offset}",
            ) from batch
        position = self.consumer.position(partition)
        end = self._find("latest", [partition])[partition]
        offset = max(position, min(batch.next_offset, end))  # beyond the end it would count as lost
        self._skip(partition, position, offset)
        log.warning("batch_skipped", extra=where | {"continues_at": offset})

    def damaged(self, error: Exception) -> BrokerError:
        """What to raise when not even the broker finds its way in its log: then nobody knows where the next batch begins."""
        positions = {
            f"{partition.topic}/{partition.partition}": self.consumer.position(
                partition, timeout_ms=int(LOOKUP_S * 1000)
            )
            for partition in self.consumer.assignment()
        }
        where = ", ".join(f"offset {offset} of {name}" for name, offset in sorted(positions.items()))
        return BrokerError(
            self.settings.bootstrap_servers,
            f"the broker's log is damaged behind {where} ({error}); mend it there, it cannot be passed over from here",
        )

    def _find(self, which: str, partitions: Iterable[Any]) -> dict[Any, int]:
        """The `earliest` or `latest` offsets."""
        find = self.consumer.beginning_offsets if which == "earliest" else self.consumer.end_offsets
        offsets: dict[Any, int] = find(list(partitions), timeout_ms=int(LOOKUP_S * 1000))
        return offsets

    def _skip(self, partition: Any, position: int, offset: int) -> None:
        self.consumer.seek(partition, offset)
        self.metrics.skipped.inc(max(0, offset - position))
