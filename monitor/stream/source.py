"""The features topic as the service sees it: polled records, positions, commits and lag. One thread owns a source."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from monitor.errors import BrokerError
from monitor.settings import Settings
from monitor.stream.arrivals import notice_every_arrival
from monitor.stream.assignment import Assignment, Settled
from monitor.stream.batches import Segment
from monitor.stream.broker import broker_errors, client_options, describe_kafka_error
from monitor.stream.positions import Positions
from monitor.stream.record_batches import UnreadableBatchError, poll_record_batches
from monitor.stream.rejoin import take_every_join
from monitor.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

# The longest wait for what is on its way when partitions are given up: the whole group waits for it.
DRAIN_S = 0.9
DRAIN_TICK_S = 0.02


@dataclass(frozen=True)
class Lag:
    """How far one partition is behind.

    Attributes:
        partition: which.
        records: not yet acknowledged.
        seconds: age of the oldest of them, by its Kafka timestamp; 0 when there is none.
    """

    partition: int
    records: int
    seconds: float


class Source:
    """A consumer in a group, with our own offset policy.

    Attributes:
        before_leaving: settles what is acknowledged by now; called while partitions are given up, and the loop waits for that.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Connects and subscribes.

        Raises:
            BrokerError: no broker, or it refuses us.
        """
        from kafka import KafkaConsumer
        from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
        from kafka.coordinator.assignors.range import RangePartitionAssignor

        assignor = {"cooperative": CooperativeStickyAssignor, "eager": RangePartitionAssignor}
        self._settings = settings
        self._metrics = metrics
        self._commits = settings.delivery == "at_least_once"  # otherwise transactions do
        self._assignment = Assignment()
        self.before_leaving: Callable[[], None] = lambda: None
        self._joined = False
        self._commit_in_flight: dict[Any, Settled] = {}
        self._commit_failing = False
        with broker_errors(settings, "connecting the consumer"):
            self._consumer = KafkaConsumer(
                **client_options(settings),
                group_id=settings.group_id,
                group_instance_id=settings.group_instance_id,
                session_timeout_ms=int(settings.session_timeout_s * 1000),
                heartbeat_interval_ms=max(100, int(min(3.0, settings.session_timeout_s / 4) * 1000)),
                max_poll_interval_ms=int(settings.max_poll_interval_s * 1000),
                partition_assignment_strategy=[assignor[settings.rebalance_protocol]],
                auto_offset_reset="none",
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                isolation_level="read_committed",
                max_poll_records=settings.max_rows,
                fetch_max_bytes=settings.fetch_max_bytes,
                fetch_max_wait_ms=int(settings.fetch_max_wait_s * 1000),
                max_partition_fetch_bytes=settings.fetch_max_bytes,
                metadata_max_age_ms=30_000,
                metrics_enabled=False,
            )
            self._positions = Positions(self._consumer, settings, metrics)
            poll_record_batches(self._consumer)
            take_every_join(self._consumer)
            notice_every_arrival(self._consumer)
            self._consumer.subscribe([settings.features_topic], listener=_listener(self))

    @property
    def joined(self) -> bool:
        """Whether the group has given us our partitions, be it none."""
        return self._joined

    def poll(self, timeout_s: float, max_rows: int) -> list[Segment]:
        """Records that have arrived, at most `max_rows`; an empty list after `timeout_s`.

        Raises:
            BrokerError: offsets are gone and `on_offset_lost` is `fail`, a record batch cannot be read and
                `on_unreadable_batch` is `fail`, the broker cannot read its own log, the topic is another one, or the broker
                refuses us for good.
            kafka.errors.KafkaError: anything that may pass.
        """
        from kafka.errors import (
            AuthorizationError,
            CorruptRecordError,
            FencedInstanceIdError,
            NoOffsetForPartitionError,
            OffsetOutOfRangeError,
        )

        self._refuse_another_topic()
        try:
            polled = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=max(1, max_rows))
        except NoOffsetForPartitionError as error:
            self._positions.begin(error.args[0])
            return []
        except OffsetOutOfRangeError as error:
            self._positions.recover(error.args[0])
            return []
        except UnreadableBatchError as error:
            self._positions.pass_over(error)
            return []
        except CorruptRecordError as error:
            raise self._positions.damaged(error) from error
        except FencedInstanceIdError as error:
            raise BrokerError(
                self._settings.bootstrap_servers,
                f"another replica uses group_instance_id {self._settings.group_instance_id!r}; give each its own",
            ) from error
        except AuthorizationError as error:
            if self._joined:
                raise  # rights may come back, as they went
            raise BrokerError(self._settings.bootstrap_servers, f"reading: {describe_kafka_error(error)}") from error
        return [self._assignment.polled(partition, batches) for partition, batches in polled.items()]

    def is_caught_up(self, polled: Iterable[Segment]) -> bool:
        """Whether these were the newest records of their partitions when they were fetched."""
        from kafka import TopicPartition
        from kafka.errors import IllegalStateError

        try:
            ends = [
                (part.next_offset, self._consumer.highwater(TopicPartition(part.topic, part.partition)))
                for part in polled
            ]
        except IllegalStateError:  # given up meanwhile
            return False
        return all(end is not None and at >= end for at, end in ends)

    def _refuse_another_topic(self) -> None:
        """The broker has forgotten the group's offsets with the old topic, so a new start begins as a new group does."""
        if self._positions.is_another_topic():
            self._give_up(list(self._consumer.assignment()))
            raise BrokerError(
                self._settings.bootstrap_servers,
                f"topic {self._settings.features_topic!r} was deleted and created anew; "
                "start again to read the new one as start_from says",
            )

    def pause(self) -> None:
        """Stops fetching; polling goes on, so that the group keeps its member."""
        self._consumer.pause(*self._consumer.assignment())

    def resume(self) -> None:
        """Fetches again."""
        self._consumer.resume(*self._consumer.paused())

    def settle(self, segments: Iterable[Segment]) -> None:
        """Notes that everything the segments led to is acknowledged; `commit` sends the offsets.

        With exactly-once there is nothing left to commit: the transaction that delivered them held the offsets, too.
        """
        self._assignment.settle(segments)
        if not self._commits:
            self._assignment.take_settled()
            self._metrics.last_commit.set_to_current_time()

    def still_ours(self, segments: Iterable[Segment]) -> tuple[Segment, ...]:
        """Those whose partitions have been ours ever since they were polled; called by any thread."""
        return self._assignment.still_ours(segments)

    def handed_over(self, segments: Iterable[Segment]) -> None:
        """Notes that the segments are on their way: their partitions are not given up before they are settled."""
        self._assignment.hand_over(segments)

    async def _drain(self, partitions: Iterable[Any]) -> None:
        """Waits a little for what is on its way, so that nobody has to do it again. Runs on the client's I/O thread."""
        deadline = time.monotonic() + DRAIN_S
        self.before_leaving()
        while self._assignment.is_busy(partitions) and time.monotonic() < deadline:
            await self._consumer._manager._net.sleep(DRAIN_TICK_S)  # noqa: SLF001 - the one way to wait in that thread
            self.before_leaving()

    def membership(self) -> Any:
        """Who we are in the group at this moment, for the broker to compare; called by any thread."""
        return self._consumer.group_metadata()

    def commit(self) -> None:
        """Sends what is settled, without waiting; a commit under way is not overtaken."""
        if self._commit_in_flight:
            return
        self._commit_in_flight = self._assignment.take_settled()
        if self._commit_in_flight:
            self._consumer.commit_async(_next_offsets(self._commit_in_flight), callback=self._committed)

    def _committed(self, _offsets: object, outcome: object) -> None:
        """Called by the client from `poll` once the broker has answered; a failed commit is tried again with the next one."""
        sent, self._commit_in_flight = self._commit_in_flight, {}
        if not isinstance(outcome, Exception):
            self._metrics.last_commit.set_to_current_time()
            self._commit_failing = False
            return
        self._assignment.put_back(sent)
        if not self._commit_failing:  # an outage is one line, not one for each attempt
            log.warning("commit_failed", extra={"error": repr(outcome)})
        self._commit_failing = True

    def lag(self, timeout_s: float, now_s: float) -> list[Lag]:
        """Lag of every assigned partition.

        Args:
            timeout_s: the longest wait for the broker.
            now_s: wall clock, seconds since 1970.

        Raises:
            kafka.errors.KafkaError: the broker does not answer in time.
        """
        partitions = list(self._consumer.assignment())
        if not partitions:
            return []
        ends = self._consumer.end_offsets(partitions, timeout_ms=int(timeout_s * 1000))
        lags = (self._lag_of(partition, ends[partition], timeout_s, now_s) for partition in partitions)
        return [lag for lag in lags if lag is not None]

    def _lag_of(self, partition: Any, end: int, timeout_s: float, now_s: float) -> Lag | None:
        """None while the partition has no position yet."""
        from kafka.errors import NoOffsetForPartitionError

        oldest = self._assignment.oldest(partition)
        if oldest is not None:
            behind_s = now_s - oldest.stored.first_timestamp_ms / 1000
            return Lag(partition.partition, max(0, end - oldest.offsets[0]), max(0.0, behind_s))
        try:
            position = self._consumer.position(partition, timeout_ms=int(timeout_s * 1000))
        except NoOffsetForPartitionError:
            return None
        behind = max(0, end - position) if position is not None else 0
        newest_ms = self._assignment.newest_ms(partition)
        seconds = max(0.0, now_s - newest_ms / 1000) if behind and newest_ms is not None else 0.0
        return Lag(partition.partition, behind, seconds)

    def close(self, timeout_s: float) -> None:
        """Commits what is settled and leaves the group."""
        from kafka.errors import KafkaError

        settled = self._assignment.take_settled()
        started = time.monotonic()
        try:
            if settled:
                self._consumer.commit(_next_offsets(settled), timeout_ms=int(timeout_s * 1000))
                self._metrics.last_commit.set_to_current_time()
        except KafkaError as error:
            log.warning("commit_failed", extra={"error": repr(error)})
        left_s = max(0.5, timeout_s - (time.monotonic() - started))
        try:
            self._consumer.close(autocommit=False, timeout_ms=int(left_s * 1000))
        except KafkaError as error:
            log.warning("consumer_not_closed", extra={"error": repr(error)})

    # Called by the rebalance listener, on the I/O thread.

    def _on_assigned(self, partitions: Iterable[Any]) -> None:
        held = self._assignment.add(partitions)
        self._joined = True
        self._metrics.rebalances.inc()
        log.info("partitions_assigned", extra={"partitions": held})

    def _give_up(self, partitions: list[Any]) -> dict[Any, Settled]:
        """Ends the epochs of some partitions; returns what of them is settled."""
        for partition in partitions:
            self._metrics.forget_partition(partition.partition)
        # Of a partition that comes back at once, as all may when rebalancing is eager, the client would keep the position, and
        # what was polled and not delivered would be left out.
        subscription = self._consumer._subscription  # noqa: SLF001
        subscription.assign_from_subscribed(sorted(subscription.assigned_partitions() - set(partitions)))
        return self._assignment.remove(partitions)


def _next_offsets(settled: Mapping[Any, Settled]) -> dict[Any, Any]:
    from kafka import OffsetAndMetadata

    return {partition: OffsetAndMetadata(done.next_offset, "", -1) for partition, done in settled.items()}


def _listener(source: Source) -> Any:
    """The rebalance listener; its base class is imported here to keep the module light."""
    from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
    from kafka.errors import KafkaError

    class Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]
        async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
            source._on_assigned(assigned)  # noqa: SLF001

        async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
            await source._drain(revoked)  # noqa: SLF001
            settled = source._give_up(list(revoked))  # noqa: SLF001
            log.info("partitions_revoked", extra={"partitions": sorted(partition.partition for partition in revoked)})
            if settled:
                try:
                    await source._consumer.commit_async(_next_offsets(settled))  # noqa: SLF001
                except KafkaError as error:
                    log.warning("commit_failed", extra={"error": repr(error)})

        async def on_partitions_lost(self, lost: Iterable[Any]) -> None:
            source._give_up(list(lost))  # noqa: SLF001
            log.warning("partitions_lost", extra={"partitions": sorted(partition.partition for partition in lost)})

    return Listener()
