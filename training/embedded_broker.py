"""A Kafka-speaking broker inside this process, for the demo: librdkafka's test cluster. No Java, no Docker.

It lives in memory, listens on loopback and forgets everything. It keeps some 5 MB a partition and drops the oldest
records beyond that. It proves nothing about delivery; the tests use a real Apache Kafka.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from monitor.errors import BrokerError

# What the test cluster speaks; it cannot be asked.
API_VERSION = "2.3"
_START_TIMEOUT_S = 10.0


class EmbeddedBroker:
    """Runs from `with` to the end of the block."""

    def __init__(self, topics: tuple[str, ...]) -> None:
        """Takes the topics to create; each gets four partitions."""
        self._topics = topics
        self._cluster: Any = None
        self.bootstrap_servers = ""

    def __enter__(self) -> Self:
        """Starts the broker.

        Raises:
            BrokerError: it does not come up.
        """
        import confluent_kafka

        # The address is required and not used: the option `test.mock.num.brokers` replaces it.
        options = {"test.mock.num.brokers": 1, "bootstrap.servers": "embedded", "log_level": 0}
        self._cluster = confluent_kafka.Producer(options)
        try:
            brokers = self._cluster.list_topics(timeout=_START_TIMEOUT_S).brokers.values()
            self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
            for topic in self._topics:  # asking for a topic creates it
                self._cluster.list_topics(topic, timeout=_START_TIMEOUT_S)
        except confluent_kafka.KafkaException as error:
            raise BrokerError("the embedded broker", f"does not start: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster = None
