"""Publishes records at a rate and watches the alert topic meanwhile: the latency that a user of the alerts has."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType

import msgspec
import numpy as np
from confluent_kafka import Producer
from kafka import KafkaConsumer


class LiveAlerts:
    """Reads alerts as they come, in a thread of its own."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._latencies: list[float] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> LiveAlerts:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        consumer = KafkaConsumer(
            self._topic,
            bootstrap_servers=self._bootstrap,
            group_id=None,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        while not self._stopping.is_set():
            for batch in consumer.poll(timeout_ms=100, max_records=5000).values():
                now = time.time()
                for record in batch:
                    stamp = msgspec.json.decode(record.value)["record"]["timestamp"]
                    self._latencies.append(now - datetime.fromisoformat(stamp).timestamp())
        consumer.close()

    def publish(self, records: Sequence[bytes], topic: str, rate: float | None) -> None:
        """Sends records in order to the first partition, so many a second or as fast as possible."""
        # The native client, since at the highest rates the Python one would need more than the core it gets.
        producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "compression.type": "lz4",
                "linger.ms": 5,
                "batch.size": 131_072,
                "queue.buffering.max.messages": len(records) + 1,
                "queue.buffering.max.kbytes": 2_000_000,
            }
        )
        started = time.perf_counter()
        for number, record in enumerate(records):
            if rate is not None and (rate < 1000 or number % 50 == 0):
                time.sleep(max(0.0, started + number / rate - time.perf_counter()))
            producer.produce(topic, value=record, partition=0)
        producer.flush()

    def latency_quantile(self, q: float) -> float:
        """Seconds from a record's Kafka timestamp to its alert in a consumer's hands."""
        return float(np.quantile(self._latencies, q))
