"""What people say about alerts, from the topic that they say it on."""

from __future__ import annotations

import pytest

from monitor.errors import BrokerError
from monitor.settings import load_settings
from tests.conftest import Kafka
from tests.topics import publish
from training.feedback import read_feedback

pytestmark = pytest.mark.broker


def test_feedback_is_read_from_a_topic_and_the_last_word_counts(kafka: Kafka) -> None:
    settings = load_settings(env={}, flags={"bootstrap_servers": kafka.bootstrap})
    topic = kafka.new_topic("feedback")
    said = (b'{"alert_id": "a", "label": "anomaly"}', b'{"alert_id": "b", "label": "false_alarm"}', b"no json")
    publish(kafka.bootstrap, topic, [*said, b'{"alert_id": "a", "label": "normal"}'])
    feedback = read_feedback(topic, settings)
    assert (feedback.anomalies, feedback.invalid) == ({"a": False, "b": False}, 1)
    with pytest.raises(BrokerError, match="no-such-topic"):
        read_feedback("no-such-topic", settings)
