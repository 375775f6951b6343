"""Publishes ready-made records to the features topic, at a rate or as fast as the broker takes them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from monitor.errors import BrokerError
from monitor.settings import Settings
from monitor.stream.broker import broker_errors, client_options, describe_kafka_error, inspect_cluster

# Sleeps shorter than this cost more than they wait.
_SHORTEST_SLEEP_S = 0.002


OnAcknowledged = Callable[[int, int, int], None]


class Publisher:
    """A producer for one topic that remembers what the broker refused."""

    def __init__(self, settings: Settings) -> None:
        """Connects, and creates the features topic if `create_topics` says so.

        Raises:
            BrokerError: no broker, no access, or no such topic.
        """
        from kafka import KafkaProducer

        self._settings = settings
        self._refused: list[Exception] = []
        self._clock: Callable[[], float] = time.monotonic
        inspect_cluster(
            settings, (settings.features_topic,), settings.features_topic, needed={settings.features_topic: "WRITE"}
        )
        with broker_errors(settings, "connecting the producer"):
            self._producer: Any = KafkaProducer(
                **client_options(settings),
                acks="all",
                compression_type=None if settings.compression == "none" else settings.compression,
                linger_ms=5,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )

    def publish(
        self,
        records: Iterable[tuple[bytes | None, bytes]],
        *,
        rate: float | None,
        stop: threading.Event,
        on_acknowledged: OnAcknowledged | None = None,
    ) -> int:
        """Sends records and waits for their acknowledgement.

        Args:
            records: keys and values.
            rate: records per second; None is as fast as possible.
            stop: ends it early, with what was sent so far acknowledged.
            on_acknowledged: told the number (from 0) of each record with the partition and offset it got, in the
                producer's thread.

        Returns:
            The number of records acknowledged.

        Raises:
            BrokerError: the broker did not take one of them.
        """
        topic = self._settings.features_topic
        sent = 0
        start = self._clock()
        try:
            with broker_errors(self._settings, f"publishing to {topic!r}"):
                for key, value in records:
                    if rate is not None:
                        self._wait(start + sent / rate, stop)
                    if stop.is_set():
                        break
                    future = self._producer.send(topic, value=value, key=key)
                    future.add_errback(self._refused.append)
                    if on_acknowledged is not None:
                        future.add_callback(partial(_report, on_acknowledged, sent))
                    sent += 1
        finally:
            self._flush()
        return sent

    def _wait(self, due: float, stop: threading.Event) -> None:
        delay = due - self._clock()
        if delay > _SHORTEST_SLEEP_S:
            stop.wait(delay)

    def _flush(self) -> None:
        with broker_errors(self._settings, "waiting for acknowledgements"):
            self._producer.flush(timeout=self._settings.broker_timeout_s)
        if self._refused:
            first = describe_kafka_error(self._refused[0])
            problem = f"{len(self._refused)} records were refused, the first one: {first}"
            raise BrokerError(self._settings.bootstrap_servers, problem)

    def close(self) -> None:
        """Closes the connection."""
        self._producer.close(timeout=self._settings.broker_timeout_s)


def _report(on_acknowledged: OnAcknowledged, number: int, metadata: Any) -> None:
    on_acknowledged(number, metadata.partition, metadata.offset)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, instead of breaking off in the middle; only for the main thread."""
    stop = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        yield stop
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
