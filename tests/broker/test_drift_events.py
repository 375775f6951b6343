"""A resident trainer hears of drift from the monitors' topic, and of nothing else."""

from __future__ import annotations

import queue
import time

import pytest

from monitor.events import EventKind, ModelEvent, event_time
from monitor.settings import Settings
from tests.conftest import Kafka
from tests.topics import publish
from training.drift_events import followed_drift

pytestmark = pytest.mark.broker

SETTLING_S = 1.0


def event(kind: EventKind, model: str, reason: str, drift: str = "gradual") -> bytes:
    return ModelEvent(
        kind=kind, time=event_time(), model=model, version="v", group="g", reason=reason, detail={"kind": drift}
    ).to_json()


def test_drift_of_the_model_is_wished_for_twice_and_what_was_before_or_is_others_is_not(kafka: Kafka) -> None:
    topic = kafka.new_topic("model-events", 2)
    publish(kafka.bootstrap, topic, [event("drift", "machines", "of yesterday")], partition=1)
    wishes: queue.SimpleQueue[str] = queue.SimpleQueue()
    settings = Settings.model_validate({"bootstrap_servers": kafka.bootstrap})
    others = [event("swapped", "machines", "a"), event("drift", "payments", "b"), b"no event", b""]
    with followed_drift(settings, topic, "machines", wishes.put, settling_s=SETTLING_S):
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


def test_an_abrupt_drift_is_wished_for_when_it_has_been_on_record_for_a_while(kafka: Kafka) -> None:
    topic = kafka.new_topic("model-events", 1)
    wishes: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
    settings = Settings.model_validate({"bootstrap_servers": kafka.bootstrap})

    def note(reason: str) -> None:
        wishes.put((reason, time.monotonic()))

    with followed_drift(settings, topic, "machines", note, settling_s=SETTLING_S):
        while wishes.empty():  # until it listens
            publish(kafka.bootstrap, topic, [event("drift", "machines", "slow")])
            time.sleep(0.5)
        sent_at = time.monotonic()
        publish(kafka.bootstrap, topic, [event("drift", "machines", "sudden", "abrupt")])
        heard = [wishes.get(timeout=10)]
        while "sudden" not in heard[-1][0]:
            heard.append(wishes.get(timeout=10))
        assert heard[-1][0] == "drift: sudden"
        assert heard[-1][1] - sent_at >= SETTLING_S
        assert wishes.get(timeout=1)[0] == "drift a while ago: sudden"
