"""A stream of its own for each test: three topics, a group, and settings for daemons on it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Kafka
from tests.daemon import Daemon


@dataclass(frozen=True)
class Stream:
    """Topics and settings of one test."""

    kafka: Kafka
    folder: Path
    features: str
    alerts: str
    dead_letters: str
    group: str

    def settings(self, **changes: object) -> dict[str, object]:
        """Settings of a daemon on this stream; one in a hundred is flagged, unless a threshold says what is."""
        rule = {} if "threshold" in changes else {"target_alert_rate": 0.01}
        return {
            "bootstrap_servers": self.kafka.bootstrap,
            "features_topic": self.features,
            "alerts_topic": self.alerts,
            "dead_letters_topic": self.dead_letters,
            "group_id": self.group,
            "session_timeout_s": 6,
            "log_format": "json",
            **rule,
            **changes,
        }

    def daemon(self, **changes: object) -> Daemon:
        """A daemon on this stream, not started."""
        return Daemon(self.folder, self.settings(**changes))


@pytest.fixture
def new_stream(kafka: Kafka, machines_folder: Path) -> Callable[[int], Stream]:
    """Makes streams with so many partitions."""

    def make(partitions: int = 1) -> Stream:
        return Stream(
            kafka=kafka,
            folder=machines_folder,
            features=kafka.new_topic("features", partitions),
            alerts=kafka.new_topic("alerts"),
            dead_letters=kafka.new_topic("dead-letters"),
            group=f"group-{uuid.uuid4().hex[:8]}",
        )

    return make


@pytest.fixture
def stream(new_stream: Callable[[int], Stream]) -> Stream:
    """A stream of one partition."""
    return new_stream(1)
