"""Exactly-once: the alerts, dead letters and next offsets of a micro-batch in one transaction.

One transaction at a time; while there is a backlog it takes a few micro-batches, since each transaction costs several round
trips. Whatever goes wrong in it, it is never continued: a fresh producer with the same transactional id ends it on the broker,
and its micro-batches begin anew. Whether a commit without an answer took place is then read from the group's offsets, since
they are part of it.

Who may commit is the broker's decision (KIP-447): it compares our membership with the group's. We look at our membership
first and at what is ours second. A partition that is ours then was ours in that membership, too, and nobody else is given it
before the broker has stopped accepting that membership; whoever gets it reads its offset only after our transaction ended.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import CommitFailedError, InvalidProducerEpochError, KafkaError, ProducerFencedError

from monitor.errors import BrokerError
from monitor.stream.batches import Segment
from monitor.stream.broker import describe_kafka_error
from monitor.stream.sink import (
    FIRST_BACKOFF_S,
    LAST_BACKOFF_S,
    DeliveryAbortedError,
    Message,
    Stuck,
    is_about_size,
)
from monitor.stream.transactional_sink import TransactionalSink, Wait

if TYPE_CHECKING:
    from monitor.stream.judged import Judged

log = logging.getLogger(__name__)

MOST_BATCHES = 4


class Group(Protocol):
    """What a transaction asks of the source; from the worker's thread."""

    def membership(self) -> Any:
        """Who we are in the group at this moment."""

    def still_ours(self, segments: Sequence[Segment]) -> tuple[Segment, ...]:
        """Those whose partitions have been ours ever since they were polled."""


class Transaction:
    """A micro-batch, or a few, on the way, exactly once."""

    def __init__(self, sink: TransactionalSink, group: Group, judged: Judged) -> None:
        """Opens a transaction and sends the messages; `complete` adds the offsets and commits."""
        self._sink = sink
        self._group = group
        self._judged = [judged]
        self._messages = list(judged.messages)
        self._pending: list[tuple[Message, Any]] = []
        self._one_by_one = False
        self._open = False
        self._commit_asked = False
        self._done = False
        self._begun_at = 0.0
        self._failure = self._try(self._begin)

    def takes(self, judged: Judged) -> bool:
        """Sends the messages of one more micro-batch in this transaction, unless it is full or something is amiss."""
        if self._failure is not None or not self._open or len(self._judged) == MOST_BATCHES:
            return False
        segments = judged.batch.segments
        if len(self._group.still_ours(segments)) < len(segments):
            return False
        self._judged.append(judged)
        self._messages += judged.messages
        self._failure = self._try(self._send_pending)
        return True

    def complete(self, abort: threading.Event, on_waiting: Callable[[str, bool], None]) -> Sequence[Judged]:
        """Returns what was delivered, once it was, however long that takes.

        Args:
            abort: set when the service must not wait any longer.
            on_waiting: told a topic, or "broker", and whether delivery is stuck there.

        Raises:
            DeliveryAbortedError: `abort` was set before; the transaction is left open, for the broker to abort.
            BrokerError: another process uses our transactional id.
        """
        stuck = Stuck(on_waiting)
        backoff_s = FIRST_BACKOFF_S
        while failure := self._failure or self._try(lambda: self._finish(abort, stuck)):
            self._refuse_if_fenced(failure)
            log.info("transaction_failed", extra={"error": describe_kafka_error(failure)})
            if not self._knows_more(failure):
                if backoff_s > FIRST_BACKOFF_S:  # once is often a rebalance
                    stuck.report("broker", describe_kafka_error(failure))
                if abort.wait(backoff_s):
                    raise DeliveryAbortedError
                backoff_s = min(LAST_BACKOFF_S, 2 * backoff_s)
            self._failure = self._try(self._begin_anew)
        stuck.end()
        return self._judged

    @staticmethod
    def _try(step: Callable[[], None]) -> Exception | None:
        """What kept a step from being done, if anything did."""
        try:
            step()
        except BrokerError as error:
            return error
        except KafkaError as error:  # the client wraps the first error of a transaction in later ones
            causes: list[Exception] = [cause for cause in error.args if isinstance(cause, KafkaError)]
            return causes[0] if causes else error
        return None

    def _begin(self) -> None:
        self._begun_at = time.monotonic()
        self._membership = self._group.membership()
        self._give_up_what_is_lost()
        if not self._judged:
            return
        if self._membership.generation_id < 0:
            raise CommitFailedError("not a member of the group at the moment")
        self._sink.begin()
        self._open = True
        self._pending = []
        if not self._one_by_one:
            self._send_pending()

    def _give_up_what_is_lost(self) -> None:
        """Other replicas read again what was polled of partitions that are theirs now."""
        segments = self._segments()
        lost = sum(map(len, segments)) - sum(map(len, self._group.still_ours(segments)))
        if not lost:
            return
        log.info("records_given_up", extra={"rows": lost})
        left = [
            (judged.by, replace(judged.batch, segments=self._group.still_ours(judged.batch.segments)))
            for judged in self._judged
        ]
        self._judged = [judge.judge(batch) for judge, batch in left if batch.segments]
        self._messages = [message for judged in self._judged for message in judged.messages]

    def _send_pending(self) -> None:
        """Sends the messages that were not sent yet."""
        for place in range(len(self._pending), len(self._messages)):
            future = self._send(place)
            self._pending.append((self._messages[place], future))

    def _send(self, place: int) -> Any:
        """The future of a message; one that even the client finds too large is made smaller at once."""
        message = self._messages[place]
        try:
            return self._sink.send(message)
        except KafkaError as error:
            if not is_about_size(error) or message.shrink is None:
                raise
        self._messages[place] = message.shrink(message)
        return self._sink.send(self._messages[place])

    def _finish(self, abort: threading.Event, stuck: Stuck) -> None:
        """Waits for the acknowledgements, adds the offsets, commits."""
        if not self._judged or self._done:
            return
        if self._one_by_one:
            self._send_one_by_one(abort, stuck)
        for message, future in self._pending:
            self._await(message, future, abort, stuck)
        wait = Wait(abort, lambda: stuck.report("broker", "the transaction takes long"))
        self._sink.add_offsets(_next_offsets(self._segments()), self._membership, wait)
        self._commit_asked = True
        self._sink.commit(wait)

    def _await(self, message: Message, future: Any, abort: threading.Event, stuck: Stuck) -> None:
        Wait(abort, lambda: stuck.report(message.topic, "not acknowledged yet")).until(lambda s: _is_done(future, s))
        if not future.failed():
            return
        error: Exception = future.exception
        if not is_about_size(error) or self._one_by_one:
            stuck.report(message.topic, describe_kafka_error(error))
        raise error

    def _send_one_by_one(self, abort: threading.Event, stuck: Stuck) -> None:
        """Each message waits for the one before it, so that only those are made smaller which are too large themselves."""
        self._pending = []
        for place, message in enumerate(self._messages):
            future = self._send(place)
            Wait(abort, lambda: None).until(lambda s, future=future: _is_done(future, s))  # type: ignore[misc]
            if future.failed() and is_about_size(future.exception) and message.shrink is not None:
                self._messages[place] = message.shrink(message)
                raise _ShrunkError(str(future.exception))
            self._await(message, future, abort, stuck)

    def _knows_more(self, failure: Exception) -> bool:
        """Whether the next attempt will be another one than that which failed."""
        if isinstance(failure, _ShrunkError):
            return True
        if self._one_by_one or not is_about_size(failure):
            return False
        self._one_by_one = True  # messages fail with the one that is too large: find out which one that is
        return True

    def _begin_anew(self) -> None:
        """Ends the failed transaction, which may turn out to be committed, and begins the next."""
        if self._open:
            self._sink.replace()
            if self._commit_asked and self._was_committed():
                self._done = True
                return
            self._open = self._commit_asked = False
        self._begin()

    def _was_committed(self) -> bool:
        """Whether a commit took place that nobody answered; its offsets tell, of which all are committed or none."""
        wanted = _next_offsets(self._group.still_ours(self._segments()))
        committed = self._sink.committed(wanted)
        return any((committed[partition] or 0) >= next_offset.offset for partition, next_offset in wanted.items())

    def _segments(self) -> list[Segment]:
        return [segment for judged in self._judged for segment in judged.batch.segments]

    def _refuse_if_fenced(self, failure: Exception) -> None:
        """The broker fences a transaction that took too long, and one whose transactional id somebody else begins to use.

        Raises:
            BrokerError: it was the latter.
        """
        took_s = time.monotonic() - self._begun_at
        if isinstance(failure, ProducerFencedError | InvalidProducerEpochError) and took_s < self._sink.timeout_s:
            raise self._sink.fenced() from failure


class _ShrunkError(KafkaError):  # type: ignore[misc]
    """A message was too large; the next attempt sends a smaller one."""


def _is_done(future: Any, wait_s: float) -> bool:
    with suppress(KafkaError):
        future.get(timeout=wait_s)
    return bool(future.is_done)


def _next_offsets(segments: Sequence[Segment]) -> dict[Any, Any]:
    return {
        TopicPartition(segment.topic, segment.partition): OffsetAndMetadata(segment.next_offset, "", -1)
        for segment in segments
    }
