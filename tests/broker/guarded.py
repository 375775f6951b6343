"""What the tests of security share: streams on a broker that asks who is there, and how a daemon is refused by one."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

from tests.broker.conftest import Stream
from tests.conftest import Kafka
from tests.daemon import Daemon
from tests.kafka_broker import KafkaBroker

TIMEOUT_S = 1.5
# What may come on top of broker_timeout_s: starting Python, loading the model, finding out why nobody answers.
SLACK_S = 20


def stream_on(broker: KafkaBroker, folder: Path) -> Stream:
    """Three topics of their own, made through the plain listener, the tests' own way in."""
    kafka = Kafka(broker.bootstrap)
    features, alerts, dead_letters = (kafka.new_topic(stem) for stem in ("features", "alerts", "dead-letters"))
    return Stream(kafka, folder, features, alerts, dead_letters, f"group-{uuid.uuid4().hex[:8]}")


def refusal(daemon: Daemon, secrets: Sequence[str] = ()) -> tuple[int, str]:
    """Exit code and last line of a daemon that must not start; within its time and without a traceback or a secret."""
    daemon.settings["broker_timeout_s"] = TIMEOUT_S
    with daemon:
        code = daemon.wait(TIMEOUT_S + SLACK_S)
    assert "Traceback" not in daemon.output()
    assert [secret for secret in secrets if secret in daemon.output()] == []
    return code, daemon.output().strip().splitlines()[-1]
