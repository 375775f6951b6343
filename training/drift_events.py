"""Listens to the monitors' events: drift of a model is a wish to retrain it, twice.

An abrupt change is found within some hundred records, of which hardly any is on record yet: to retrain at once would make the old
model again. So the first wish comes when the change has been on record for a while; the second retraining knows more of it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import msgspec

from monitor.errors import GanwatchError
from monitor.events import ModelEvent
from monitor.settings import Settings
from monitor.stream.broker import client_options, describe_kafka_error

log = logging.getLogger(__name__)

POLL_S = 1.0
BACKOFF_S = 5.0


@contextmanager
def followed_drift(
    settings: Settings, topic: str, model: str, wish: Callable[[str], None], *, settling_s: float
) -> Iterator[None]:
    """Listens meanwhile, in a thread of its own; an outage is waited for.

    Args:
        settings: how to reach Kafka.
        topic: of the model events.
        model: whose drift counts.
        wish: told the reason of each.
        settling_s: seconds from the event of an abrupt drift to the wishes; a gradual one has been on record for long.
    """
    ended = threading.Event()
    take = partial(_take, model=model, wish=wish, settling_s=settling_s)
    listen = partial(_listen, settings, topic, take, ended)
    thread = threading.Thread(target=_follow, args=(listen, topic, ended), name="drift-events", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5 * POLL_S)


def _follow(listen: Callable[[], None], topic: str, ended: threading.Event) -> None:
    from kafka.errors import KafkaError

    while not ended.is_set():
        try:
            listen()
        except KafkaError as error:
            log.warning("model_events_not_read", extra={"topic": topic, "error": describe_kafka_error(error)})
        except GanwatchError as error:  # such as a token command that fails for now
            log.warning("model_events_not_read", extra={"topic": topic, "error": str(error)})
        ended.wait(BACKOFF_S)


def _listen(settings: Settings, topic: str, take: Callable[[bytes | None], None], ended: threading.Event) -> None:
    """Reads what is new until the end; returns as well when there is no such topic."""
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
        while not ended.is_set():
            for records in consumer.poll(timeout_ms=int(POLL_S * 1000)).values():
                for record in records:
                    take(record.value)
    finally:
        consumer.close()


def _take(value: bytes | None, model: str, wish: Callable[[str], None], settling_s: float) -> None:
    try:
        event = msgspec.json.decode(value or b"", type=ModelEvent)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return  # somebody else's
    if event.kind != "drift" or event.model != model:
        return
    if event.detail.get("kind") != "abrupt":
        _wish_twice(wish, event.reason)
        return
    log.info("retrain_when_settled", extra={"reason": event.reason, "seconds": settling_s})
    timer = threading.Timer(settling_s, _wish_twice, [wish, event.reason])
    timer.daemon = True
    timer.start()


def _wish_twice(wish: Callable[[str], None], reason: str) -> None:
    wish(f"drift: {reason}")
    wish(f"drift a while ago: {reason}")
