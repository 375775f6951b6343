"""A resident trainer hears of drift from the monitors' topic, and of nothing else."""

from __future__ import annotations

import queue

import pytest

from monitor.events import EventKind, ModelEvent, event_time
from monitor.settings import Settings
from tests.conftest import Kafka
from tests.topics import publish
from training.drift_events import followed_drift

pytestmark = pytest.mark.broker


def event(kind: EventKind, model: str, reason: str) -> bytes:
    return ModelEvent(kind=kind, time=event_time(), model=model, version="v", group="g", reason=reason).to_json()


def test_drift_of_the_model_is_wished_for_twice_and_what_was_before_or_is_others_is_not(kafka: Kafka) -> None:
    topic = kafka.new_topic("model-events", 2)
    publish(kafka.bootstrap, topic, [event("drift", "machines", "of yesterday")], partition=1)
    wishes: queue.SimpleQueue[str] = queue.SimpleQueue()
    settings = Settings.model_validate({"bootstrap_servers": kafka.bootstrap})
    others = [event("swapped", "machines", "a"), event("drift", "payments", "b"), b"no event", b""]
    with followed_drift(settings, topic, "machines", wishes.put):
        for number in range(100):  # until it listens
            mine = event("drift", "machines", f"of today {number}")
            publish(kafka.bootstrap, topic, [*others, mine], partition=number % 2)
            try:
                first = wishes.get(timeout=0.5)
            except queue.Empty:
                continue
            assert first.startswith("drift: of today")
            assert wishes.get(timeout=5) == first.replace("drift:", "drift a while ago:")
            return
        pytest.fail("it heard nothing")
