"""Listens to the monitors' events: drift of a model is a wish to retrain it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import msgspec

from monitor.events import ModelEvent
from monitor.settings import Settings
from monitor.stream.broker import client_options, describe_kafka_error

log = logging.getLogger(__name__)

POLL_S = 1.0
BACKOFF_S = 5.0


def follow_drift(settings: Settings, topic: str, model: str, wish: Callable[[str], None]) -> threading.Thread:
    """Listens from now on, in a thread that ends with the process; an outage is waited for.

    Args:
        settings: how to reach Kafka.
        topic: of the model events.
        model: whose drift counts.
        wish: told the reason of each.
    """
    thread = threading.Thread(target=_follow, args=(settings, topic, model, wish), name="drift-events", daemon=True)
    thread.start()
    return thread


def _follow(settings: Settings, topic: str, model: str, wish: Callable[[str], None]) -> None:
    from kafka.errors import KafkaError

    while True:
        try:
            _listen(settings, topic, model, wish)
        except KafkaError as error:
            log.warning("model_events_not_read", extra={"topic": topic, "error": describe_kafka_error(error)})
        time.sleep(BACKOFF_S)


def _listen(settings: Settings, topic: str, model: str, wish: Callable[[str], None]) -> None:
    """Reads what is new; returns when there is no such topic."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(**client_options(settings), group_id=None, enable_auto_commit=False, metrics_enabled=False)
    try:
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            log.warning("model_events_not_read", extra={"topic": topic, "error": "there is no such topic"})
            return
        partitions = [TopicPartition(topic, number) for number in numbers]
        consumer.assign(partitions)
        consumer.seek_to_end(*partitions)
        log.info("model_events_followed", extra={"topic": topic})
        while True:
            for records in consumer.poll(timeout_ms=int(POLL_S * 1000)).values():
                for record in records:
                    _take(record.value, model, wish)
    finally:
        consumer.close()


def _take(value: bytes | None, model: str, wish: Callable[[str], None]) -> None:
    try:
        event = msgspec.json.decode(value or b"", type=ModelEvent)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return  # somebody else's
    if event.kind == "drift" and event.model == model:
        wish(f"drift: {event.reason}")
