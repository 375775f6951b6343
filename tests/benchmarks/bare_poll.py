"""A loop that only polls, with the daemon's consumer settings: the rate that no monitor can exceed.

`python -m tests.benchmarks.bare_poll BOOTSTRAP TOPIC RECORDS` prints records per second, from the first record on.
"""

from __future__ import annotations

import sys
import time

from kafka import KafkaConsumer, TopicPartition

from monitor.settings import Settings
from monitor.stream.broker import client_options


def poll_all(bootstrap: str, topic: str, records: int) -> float:
    """Records per second of polling a topic from its beginning."""
    settings = Settings(bootstrap_servers=bootstrap)
    consumer = KafkaConsumer(
        **client_options(settings),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_poll_records=settings.max_rows,
        fetch_max_bytes=settings.fetch_max_bytes,
        max_partition_fetch_bytes=settings.fetch_max_bytes,
        metrics_enabled=False,
    )
    partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    polled = 0
    started = 0.0
    while polled < records:
        batches = consumer.poll(timeout_ms=1000)
        started = started or time.perf_counter()
        polled += sum(len(batch) for batch in batches.values())
    seconds = time.perf_counter() - started
    consumer.close()
    return polled / seconds


if __name__ == "__main__":
    print(poll_all(sys.argv[1], sys.argv[2], int(sys.argv[3])))
