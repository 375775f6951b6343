"""Reads the alerts topic as any consumer would, and keeps every document in a file."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from monitor.settings import Settings
from monitor.stream.broker import broker_errors, client_options

Alert = dict[str, Any]


class AlertReader:
    """Collects alerts from the beginning of the topic, within `with`.

    Attributes:
        alerts: the documents, in the order they came.
    """

    def __init__(self, settings: Settings, file: Path) -> None:
        """Takes the connection and the JSON-lines file to write."""
        self._settings = settings
        self._file = file
        self.alerts: list[Alert] = []

    def __enter__(self) -> Self:
        """Connects.

        Raises:
            BrokerError: no broker.
        """
        from kafka import KafkaConsumer, TopicPartition

        topic = self._settings.alerts_topic
        self._file.write_bytes(b"")
        with broker_errors(self._settings, f"reading {topic!r}"):
            self._consumer = KafkaConsumer(
                **client_options(self._settings), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
            )
            self._consumer.assign(
                [TopicPartition(topic, number) for number in self._consumer.partitions_for_topic(topic)]
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def poll(self, timeout_s: float) -> None:
        """Waits up to `timeout_s` for alerts and takes those that are there.

        Raises:
            BrokerError: the broker is gone.
        """
        with broker_errors(self._settings, "reading alerts"):
            polled = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        documents = [record.value for records in polled.values() for record in records]
        if documents:
            with self._file.open("ab") as file:
                file.writelines(document + b"\n" for document in documents)
            self.alerts += [msgspec.json.decode(document) for document in documents]
