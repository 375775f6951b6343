"""The daemon's one visible loop: poll → micro-batch → hand over to the worker → commit what was acknowledged → metrics."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from monitor.errors import BrokerError
from monitor.settings import Settings
from monitor.stream.batches import BatchBuilder, MicroBatch, Segment
from monitor.stream.broker import describe_kafka_error
from monitor.stream.source import Source
from monitor.stream.worker import Acknowledged, Worker
from monitor.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

LAG_INTERVAL_S = 5.0
BROKER_PROBE_S = 2.0
OFFER_S = 0.5
IDLE_POLL_S = 0.25
FIRST_BACKOFF_S = 0.2
LAST_BACKOFF_S = 5.0
WAIT_TICK_S = 0.5
# A poll waits several times for the client's I/O thread, so it may bring several micro-batches, which are still compressed.
POLL_BATCHES = 4
# Of `max_wait_s`: there are about two polls to a micro-batch then.
REST_OF_WAIT = 0.5
# Of `shutdown_timeout_s`, for the last commit and leaving the group.
LEAVE_S = 2.5


@dataclass
class Health:
    """What `/healthz` and `/readyz` answer from; written by the loop, read by the HTTP threads.

    Attributes:
        turned_at: monotonic seconds of the loop's last turn.
        joined: whether the group has assigned our partitions.
        waiting: what the service waits for with back-off.
    """

    turned_at: float = field(default_factory=time.monotonic)
    joined: bool = False
    waiting: set[str] = field(default_factory=set)

    @property
    def ready(self) -> bool:
        """Model loaded (or there would be no loop), partitions assigned, not waiting."""
        return self.joined and not self.waiting


class Service:
    """Joins source, worker and metrics; runs until it is stopped or fails."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        worker: Worker,
        metrics: Metrics,
        health: Health,
        between_batches: Callable[[], None],
    ) -> None:
        """Takes everything from outside; `between_batches` is called between any two of them, in the loop's own thread."""
        self._between_batches = between_batches
        self._settings = settings
        self._source = source
        source.before_leaving = self._take_acknowledged
        self._worker = worker
        self._metrics = metrics
        self._health = health
        self._builder = BatchBuilder(settings.max_rows, settings.max_wait_s, time.monotonic)
        self._stopping = threading.Event()
        self._stop_asked_at: float | None = None
        self._next_lag_at = 0.0
        self._waiting_since: float | None = None
        self._backoff_s = FIRST_BACKOFF_S
        self._poll_fails = False

    def stop(self) -> None:
        """Asks the loop to end; safe from a signal handler. `shutdown_timeout_s` runs from the first time."""
        if not self._stopping.is_set():
            self._stop_asked_at = time.monotonic()
            self._stopping.set()

    def limit_rows(self, most: int) -> None:
        """Has micro-batches closed at no more than this many records from now on; from the loop's own thread."""
        self._builder.max_rows = most

    def run(self) -> None:
        """Turns until `stop`; then finishes what is in flight, commits, and leaves the group.

        Raises:
            TooManyInvalidRecords: the worker gave up on the topic.
            BrokerError: `broker_give_up_s` is over, or the broker refuses us for good.
        """
        self._worker.start()
        log.info("service_started", extra={"topic": self._settings.features_topic, "group": self._settings.group_id})
        try:
            while not self._stopping.is_set() and self._worker.failure is None:
                self._turn()
        finally:
            self._shut_down()
        if self._worker.failure is not None:
            raise self._worker.failure

    def _turn(self) -> None:
        """One turn: records in, acknowledged offsets out."""
        self._health.turned_at = time.monotonic()
        self._poll()
        self._between_batches()
        while not self._stopping.is_set() and (batch := self._builder.close_if_due()):
            self._hand_over(batch)
            self._between_batches()
        self._settle()
        self._report()

    def _poll(self) -> None:
        from kafka.errors import KafkaError

        started = time.perf_counter()
        try:
            segments = self._source.poll(self._builder.remaining_s(IDLE_POLL_S), POLL_BATCHES * self._settings.max_rows)
        except KafkaError as error:
            self._poll_fails = True
            self._back_off(describe_kafka_error(error))
            return
        self._poll_fails = False
        if self._take(segments):
            self._metrics.stage_seconds.labels("poll").inc(time.perf_counter() - started)
            self._rest(segments)

    def _rest(self, segments: Sequence[Segment]) -> None:
        """Lets records gather while the micro-batch waits for them anyway: each fetch costs as much as hundreds of records."""
        if self._builder.rows < self._builder.max_rows and self._source.is_caught_up(segments):
            self._stopping.wait(self._builder.remaining_s(REST_OF_WAIT * self._settings.max_wait_s))

    def _hand_over(self, batch: MicroBatch) -> None:
        """Queues a batch; while there is no room the partitions are paused, but polling goes on and the group keeps us."""
        paused = False
        while (batch := self._still_ours(batch)).segments and not self._worker.offer(batch, OFFER_S):
            if not paused:
                self._source.pause()
                paused = True
            self._health.turned_at = time.monotonic()
            if self._worker.failure is not None or self._stopping.is_set():
                self._builder.clear()  # later records must not overtake this batch, which will be read again
                return
            self._poll_paused()
            self._settle()
            self._report()
        self._source.handed_over(batch.segments)
        if paused:
            self._source.resume()

    def _still_ours(self, batch: MicroBatch) -> MicroBatch:
        """Without what other replicas read by now."""
        return replace(batch, segments=self._source.still_ours(batch.segments))

    def _poll_paused(self) -> None:
        """Keeps the membership alive. A partition assigned meanwhile may deliver; its records join the next batch."""
        from kafka.errors import KafkaError

        try:
            self._take(self._source.poll(0.0, self._settings.max_rows))
        except KafkaError as error:
            self._back_off(describe_kafka_error(error))
        self._source.pause()

    def _take(self, segments: Sequence[Segment]) -> int:
        """Adds records to the open micro-batch and counts them."""
        self._builder.add(segments)
        rows = sum(map(len, segments))
        self._metrics.consumed.inc(rows)
        return rows

    def _settle(self) -> None:
        """Commits the offsets of every batch whose alerts and dead letters the broker has acknowledged."""
        self._take_acknowledged()
        started = time.perf_counter()
        self._source.commit()
        self._metrics.stage_seconds.labels("commit").inc(time.perf_counter() - started)

    def _count(self, acknowledged: Acknowledged) -> None:
        """Updates the metrics, once a batch."""
        metrics, judged = self._metrics, acknowledged.judged
        metrics.scored.inc(len(judged.scores))
        metrics.flagged.inc(judged.n_flagged)
        metrics.score.observe_many(judged.scores)
        metrics.latency.observe_many(np.maximum(0.0, time.time() - judged.timestamps_ms / 1000))
        metrics.batch_rows.observe(judged.batch.n_rows)
        metrics.batch_seconds.observe(time.monotonic() - judged.batch.closed_at)
        for reason, count in judged.reasons.items():
            metrics.dead_lettered.labels(reason).inc(count)
        for feature, count in judged.imputed.items():
            metrics.imputed.labels(feature).inc(count)
        for stage, seconds in judged.stage_seconds.items():
            metrics.stage_seconds.labels(stage).inc(seconds)
        if judged.beside is not None:
            metrics.beside_records.inc(len(judged.scores))
            metrics.beside_flagged.inc(judged.beside.n_flagged)
        metrics.stage_seconds.labels("publish").inc(acknowledged.publish_s)

    def _report(self) -> None:
        """Every few seconds: lag, and with it whether the broker answers at all."""
        from kafka.errors import KafkaError

        self._health.joined = self._source.joined
        self._metrics.ready.set(self._health.ready)
        if time.monotonic() < self._next_lag_at:
            return
        try:
            lags = self._source.lag(BROKER_PROBE_S, time.time())
        except KafkaError as error:
            self._back_off(describe_kafka_error(error))
            return
        self._next_lag_at = time.monotonic() + LAG_INTERVAL_S
        for lag in lags:
            self._metrics.lag_records.labels(str(lag.partition)).set(lag.records)
            self._metrics.lag_seconds.labels(str(lag.partition)).set(lag.seconds)
        if not self._poll_fails:  # a broker may answer this and refuse the records
            self._end_back_off()

    def _back_off(self, error: str) -> None:
        """Waits a little for the broker; says so once.

        Raises:
            BrokerError: `broker_give_up_s` is over.
        """
        now = time.monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
            self.set_waiting("broker", True)
            log.warning("waiting_for_broker", extra={"error": error})
        give_up_s = self._settings.broker_give_up_s
        if give_up_s is not None and now - self._waiting_since > give_up_s:
            raise BrokerError(
                self._settings.bootstrap_servers, f"gave up after broker_give_up_s = {give_up_s:g} seconds: {error}"
            )
        self._wait_turning(self._backoff_s)
        self._backoff_s = min(LAST_BACKOFF_S, 2 * self._backoff_s)
        self._next_lag_at = 0.0

    def _wait_turning(self, seconds: float) -> None:
        """Waits, or until it is stopped; the watchdog must not take a long back-off for a call that never returns."""
        until = time.monotonic() + seconds
        while not self._stopping.is_set() and (left_s := until - time.monotonic()) > 0:
            self._stopping.wait(min(WAIT_TICK_S, left_s))
            self._health.turned_at = time.monotonic()

    def _end_back_off(self) -> None:
        if self._waiting_since is not None:
            log.info("broker_is_back", extra={"waited_s": round(time.monotonic() - self._waiting_since, 1)})
            self._waiting_since = None
            self._backoff_s = FIRST_BACKOFF_S
            self.set_waiting("broker", False)

    def set_waiting(self, reason: str, waiting: bool) -> None:  # noqa: FBT001 - told as (topic, state) by the delivery
        """Shows in `/readyz` and `ganwatch_waiting` that something is waited for."""
        if waiting:
            self._health.waiting.add(reason)
        else:
            self._health.waiting.discard(reason)
        self._metrics.waiting.labels(reason).set(waiting)

    def _shut_down(self) -> None:
        """Within `shutdown_timeout_s`: deliver what was polled, commit it, leave the group."""
        asked_at = time.monotonic() if self._stop_asked_at is None else self._stop_asked_at
        deadline = asked_at + self._settings.shutdown_timeout_s
        self._metrics.ready.set(0)
        if self._worker.failure is None:
            while batch := self._builder.close():
                if not self._worker.offer(batch, self._settings.shutdown_timeout_s / 2):
                    break  # this batch and all behind it will be read again
            self._worker.finish(max(0.0, deadline - time.monotonic() - LEAVE_S))
        self._take_acknowledged()  # `close` commits it, and waits for that
        self._source.close(max(1.0, deadline - time.monotonic()))
        log.info("service_stopped")

    def _take_acknowledged(self) -> None:
        """Settles and counts what the worker has finished; the commit is another matter."""
        while True:
            try:
                acknowledged = self._worker.acknowledged.get_nowait()
            except queue.Empty:
                return
            self._source.settle(acknowledged.judged.batch.segments)
            self._count(acknowledged)
