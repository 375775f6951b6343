"""Publishes messages and waits until the broker has them. What fails is sent again until it is acknowledged or we are told to stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monitor.errors import BrokerError
from monitor.settings import Settings
from monitor.stream.broker import broker_errors, client_options, describe_kafka_error

if TYPE_CHECKING:
    from monitor.stream.judged import Judged

log = logging.getLogger(__name__)

# An acknowledgement usually takes milliseconds; after this long the service says that it waits.
SLOW_S = 1.0
FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 5.0


@dataclass(frozen=True)
class Message:
    """One message to publish.

    Attributes:
        topic: where to.
        key: copied from the record; None when it had none.
        value: content.
        lane: messages of one lane stay in order: it is the partition the record came from, and chooses the one it goes to.
        headers: names and contents.
        shrink: makes of it what to send instead when the topic refuses it for its size; None when there is nothing.
    """

    topic: str
    key: bytes | None
    value: bytes
    lane: int
    headers: tuple[tuple[str, bytes], ...] = ()
    shrink: Callable[[Message], Message] | None = None


class Sink:
    """An idempotent producer that is replaced when it breaks."""

    def __init__(self, settings: Settings, **options: object) -> None:
        """Connects.

        Args:
            settings: connection and compression.
            options: more of the producer's.

        Raises:
            BrokerError: no broker, or it refuses us.
        """
        self._settings = settings
        self._options = options
        self._producer = self._connect()
        self._partition_counts: dict[str, int] = {}

    def _connect(self) -> Any:
        from kafka import KafkaProducer

        with broker_errors(self._settings, "connecting the producer"):
            return KafkaProducer(
                **client_options(self._settings),
                acks="all",
                enable_idempotence=True,
                compression_type=None if self._settings.compression == "none" else self._settings.compression,
                linger_ms=2,
                batch_size=256 * 1024,
                max_block_ms=5000,
                request_timeout_ms=10_000,
                delivery_timeout_ms=30_000,
                allow_auto_create_topics=False,
                metrics_enabled=False,
                **self._options,
            )

    def send(self, message: Message) -> Any:
        """Hands a message to the producer; returns its future.

        Raises:
            kafka.errors.KafkaError: it could not even be queued.
        """
        return self._producer.send(
            message.topic,
            value=message.value,
            key=message.key,
            headers=list(message.headers),
            partition=message.lane % self._partitions(message.topic),
        )

    def _partitions(self, topic: str) -> int:
        """How many partitions the topic had when this producer first sent to it."""
        if topic not in self._partition_counts:
            self._partition_counts[topic] = len(self._producer.partitions_for(topic))
        return self._partition_counts[topic]

    def replace(self) -> None:
        """A fresh producer, for when the old one cannot be trusted any more; the old one is dropped without waiting."""
        end_producer(self._producer, timeout_s=0.0)
        self._producer = self._connect()
        self._partition_counts = {}

    def close(self, timeout_s: float) -> None:
        """Sends what is queued, if that takes no longer, and ends."""
        end_producer(self._producer, timeout_s)


def end_producer(producer: Any, timeout_s: float) -> None:
    """Closes it for good: `close` alone gives up at the first unsent message and leaves thread and connection behind."""
    from kafka.errors import KafkaError

    try:
        producer.close(timeout=timeout_s)
    except KafkaError as error:
        log.info("producer_dropped", extra={"error": repr(error)})
        producer._sender.force_close()  # noqa: SLF001 - there is no public way
        producer._closed = True  # noqa: SLF001 - or its finaliser tries once more and complains on stderr


class DeliveryAbortedError(Exception):
    """The service stops before all was acknowledged; nothing of this micro-batch is committed."""


class Stuck:
    """Tells once for each topic that delivery to it is stuck, and once that it goes on.

    Attributes:
        topics: which are stuck.
    """

    def __init__(self, on_waiting: Callable[[str, bool], None]) -> None:
        self.topics: set[str] = set()
        self._on_waiting = on_waiting

    def report(self, topic: str, error: str) -> None:
        """It is stuck."""
        if topic not in self.topics:
            self.topics.add(topic)
            self._on_waiting(topic, True)
            log.warning("delivery_stuck", extra={"topic": topic, "error": error})

    def end(self) -> None:
        """All is delivered."""
        for topic in self.topics:
            self._on_waiting(topic, False)
            log.info("delivery_resumed", extra={"topic": topic})


class Delivery:
    """The messages of one micro-batch on their way, at least once."""

    def __init__(self, sink: Sink, judged: Judged) -> None:
        """Sends all messages; `complete` waits for them."""
        self._sink = sink
        self._judged = judged
        self._pending = [(message, self._send(message)) for message in judged.messages]

    def takes(self, judged: Judged) -> bool:  # noqa: ARG002 - a transaction does
        """Never: the sooner the offsets of a batch are committed, the fewer alerts are repeated."""
        return False

    def _send(self, message: Message) -> Any:
        """The message's future, or the error that kept it from being queued."""
        from kafka.errors import KafkaError

        try:
            return self._sink.send(message)
        except KafkaError as error:
            return error

    def complete(self, abort: threading.Event, on_waiting: Callable[[str, bool], None]) -> Sequence[Judged]:
        """Returns the micro-batch once every message is acknowledged, however long that takes.

        Args:
            abort: set when the service must not wait any longer.
            on_waiting: told a topic and whether delivery to it is stuck.

        Raises:
            DeliveryAbortedError: `abort` was set before all were acknowledged.
        """
        backoff_s = FIRST_BACKOFF_S
        stuck = Stuck(on_waiting)
        while failed := self._failed(abort, stuck):
            for message, error in failed:
                if not (is_about_size(error) and message.shrink):
                    stuck.report(message.topic, describe_kafka_error(error))
            if stuck.topics and abort.wait(backoff_s):
                raise DeliveryAbortedError
            backoff_s = min(LAST_BACKOFF_S, 2 * backoff_s)
            self._send_again(failed, abort)
        stuck.end()
        return [self._judged]

    def _failed(self, abort: threading.Event, stuck: Stuck) -> list[tuple[Message, Exception]]:
        """Waits for the broker's answers; returns what it did not acknowledge."""
        failed: list[tuple[Message, Exception]] = []
        for message, future in self._pending:
            if isinstance(future, Exception):
                failed.append((message, future))
                continue
            _wait_until_done(future, abort, lambda message=message: stuck.report(message.topic, "not acknowledged yet"))  # type: ignore[misc]
            if future.failed():
                failed.append((message, future.exception))
        return failed

    def _send_again(self, failed: Sequence[tuple[Message, Exception]], abort: threading.Event) -> None:
        """Sends what failed through a fresh producer; an idempotent one fails everything after its first failure."""
        try:
            self._sink.replace()
        except BrokerError as unreachable:
            self._pending = list(failed)
            log.info("broker_unreachable", extra={"error": str(unreachable)})
            return
        self._pending = [(message, self._send(message)) for message, error in failed if not is_about_size(error)]
        for message, error in failed:
            if is_about_size(error):
                self._pending.append(self._send_alone(message, abort))

    def _send_alone(self, message: Message, abort: threading.Event) -> tuple[Message, Any]:
        """One message by itself, since many fail with the one that is too large; only that one is made smaller."""
        future = self._send(message)
        if not isinstance(future, Exception):
            _wait_until_done(future, abort, lambda: None)
        error = future if isinstance(future, Exception) else future.exception
        if error is None or not is_about_size(error) or message.shrink is None:
            return message, future
        with suppress(BrokerError):  # a broken producer fails the next send too, which is then tried again
            self._sink.replace()
        smaller = message.shrink(message)
        return smaller, self._send(smaller)


def _wait_until_done(future: Any, abort: threading.Event, on_slow: Callable[[], None]) -> None:
    """Waits for a future of the producer.

    Raises:
        DeliveryAbortedError: `abort` was set before.
    """
    from kafka.errors import KafkaError, KafkaTimeoutError

    while not future.is_done:
        if abort.is_set():
            raise DeliveryAbortedError
        try:
            future.get(timeout=SLOW_S)
        except KafkaTimeoutError:
            if not future.is_done:
                on_slow()
        except KafkaError:
            return


def is_about_size(error: Exception) -> bool:
    from kafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

    return isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError)
