"""Publishes model events; they are news, so nothing waits for them, and one that cannot be sent is logged."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from monitor.events import ModelEvent
from monitor.settings import Settings
from monitor.stream.broker import describe_kafka_error
from monitor.stream.sink import Message, Sink

log = logging.getLogger(__name__)


class Announcer:
    """A producer of model events; may be used by several threads."""

    def __init__(self, settings: Settings, topic: str) -> None:
        """Connects.

        Raises:
            BrokerError: no broker, or it refuses us.
        """
        self._topic = topic
        self._sink = Sink(settings)

    def announce(self, event: ModelEvent) -> None:
        """Hands an event to the producer."""
        from kafka.errors import KafkaError

        try:
            future = self._sink.send(Message(self._topic, None, event.to_json(), lane=0))
            future.add_errback(_log_failure)
        except KafkaError as error:
            _log_failure(error)

    def close(self) -> None:
        """Sends what is queued, if that takes no longer than a moment."""
        with suppress(Exception):
            self._sink.close(timeout_s=1.0)


def _log_failure(error: Any) -> None:
    log.warning("model_event_not_sent", extra={"error": describe_kafka_error(error)})
