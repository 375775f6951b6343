"""A producer that works in transactions, and how long its answers are waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from kafka import KafkaConsumer
from kafka.errors import KafkaError, KafkaTimeoutError, TransactionalIdAuthorizationFailedError

from monitor.errors import BrokerError
from monitor.settings import Settings
from monitor.stream.broker import broker_errors, client_options
from monitor.stream.sink import DeliveryAbortedError, Sink, end_producer

# The client waits for ever for the answer to a commit, often even when the broker is back; we begin anew after this.
WATCHDOG_S = 10.0
SLICE_S = 1.0
LOOKUP_S = 3.0
# Older brokers do not compare the membership, without which a replica could commit for partitions that it has lost.
OLDEST_BROKER = (2, 5)


class TransactionalSink(Sink):
    """A producer whose messages are visible, to those who read committed ones only, when its transaction is committed.

    Attributes:
        transactional_id: names this replica's transactions, over restarts.
        timeout_s: the broker aborts a transaction that is older. A dead replica's open one keeps its heirs from reading
            no longer than its membership does.
    """

    def __init__(self, settings: Settings) -> None:
        """Connects, and ends the transaction that a predecessor may have left open.

        Raises:
            BrokerError: no broker, it refuses us, or it is too old.
        """
        self.transactional_id = f"{settings.group_id}/{settings.group_instance_id}"
        self.timeout_s = settings.session_timeout_s
        super().__init__(
            settings,
            transactional_id=self.transactional_id,
            transaction_timeout_ms=int(self.timeout_s * 1000),
            retry_backoff_ms=20,  # also slept while the broker completes the previous transaction
        )

    def _connect(self) -> Any:
        servers = self._settings.bootstrap_servers
        producer = super()._connect()
        try:
            if producer.config["api_version"] < OLDEST_BROKER:
                raise BrokerError(servers, "delivery 'exactly_once' needs Kafka 2.5 or newer")
            with broker_errors(self._settings, f"ending old transactions of {self.transactional_id!r}"):
                producer.init_transactions()
        except BrokerError as error:
            end_producer(producer, 0.0)
            if isinstance(error.__cause__, TransactionalIdAuthorizationFailedError):
                problem = f"this user may not use the transactional id {self.transactional_id!r}; grant Write on it"
                raise BrokerError(servers, problem) from error
            raise
        return producer

    def begin(self) -> None:
        """Opens a transaction."""
        self._producer.begin_transaction()

    def add_offsets(self, offsets: dict[Any, Any], membership: Any, wait: Wait) -> None:
        """Makes next offsets part of the transaction.

        Raises:
            kafka.errors.KafkaError: refused, or no answer.
        """
        manager = self._producer._transaction_manager  # noqa: SLF001 - the public methods wait for ever
        self._await(manager.send_offsets_to_transaction(offsets, membership), wait)

    def commit(self, wait: Wait) -> None:
        """Commits the transaction.

        Raises:
            kafka.errors.KafkaError: refused, or no answer: then nobody knows whether it was.
        """
        self._await(self._producer._transaction_manager.begin_commit(), wait)  # noqa: SLF001

    def _await(self, result: Any, wait: Wait) -> None:
        self._producer._sender.wakeup()  # noqa: SLF001
        wait.until(lambda seconds: bool(result.wait(timeout_ms=seconds * 1000)))

    def committed(self, partitions: Iterable[Any]) -> dict[Any, int | None]:
        """The group's next offsets, by partition.

        Raises:
            kafka.errors.KafkaError: nobody tells.
        """
        options = client_options(self._settings) | {"group_id": self._settings.group_id, "metrics_enabled": False}
        consumer = KafkaConsumer(**options, enable_auto_commit=False, isolation_level="read_committed")
        try:
            return {partition: consumer.committed(partition, timeout_ms=LOOKUP_S * 1000) for partition in partitions}
        finally:
            consumer.close(timeout_ms=LOOKUP_S * 1000)

    def fenced(self) -> BrokerError:
        """What to raise when another process has begun to use our transactional id."""
        return BrokerError(
            self._settings.bootstrap_servers,
            f"another replica uses group_instance_id {self._settings.group_instance_id!r} and with it the transactional "
            f"id {self.transactional_id!r}; give each its own",
        )

    def close(self, timeout_s: float) -> None:
        """Aborts what is open, if that takes no longer, and ends."""
        with suppress(KafkaError):  # nothing is open, or nobody answers: the broker will abort it
            result = self._producer._transaction_manager.begin_abort()  # noqa: SLF001
            self._producer._sender.wakeup()  # noqa: SLF001
            result.wait(timeout_ms=timeout_s * 1000)
        super().close(timeout_s)


class Wait:
    """Waits for the answers to one transaction, but not for ever.

    Args:
        abort: set when the service must not wait any longer.
        on_slow: called when an answer takes long.
    """

    def __init__(self, abort: threading.Event, on_slow: Callable[[], None]) -> None:
        self._abort = abort
        self._on_slow = on_slow

    def until(self, holds: Callable[[float], bool]) -> None:
        """Returns once `holds`, which itself waits for the seconds that it is told.

        Raises:
            DeliveryAbortedError: `abort` was set before.
            kafka.errors.KafkaTimeoutError: nobody answered within `WATCHDOG_S`.
        """
        deadline = time.monotonic() + WATCHDOG_S
        while not holds(SLICE_S):
            if self._abort.is_set():
                raise DeliveryAbortedError
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"the transaction got no answer within {WATCHDOG_S:g} s")
            self._on_slow()
