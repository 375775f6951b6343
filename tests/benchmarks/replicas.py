"""Several replicas of the daemon on one topic, whose records all appear at once when everyone has its partitions."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Producer

from tests.benchmarks.kdd99_stream import create
from tests.conftest import Kafka
from tests.daemon import Daemon, done_records

JOIN_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Together:
    """What some replicas achieved.

    Attributes:
        records_per_s: of all of them, from the first acknowledged micro-batch to the last.
        broker_cores: CPU seconds that the broker took in a second meanwhile.
    """

    records_per_s: float
    broker_cores: float


def replicas_rate(
    folder: Path,
    kafka: Kafka,
    broker_pid: int,
    *,
    parts: Sequence[Sequence[bytes]],
    cores: Sequence[set[int]],
    settings: Mapping[str, object],
) -> Together:
    """Publishes records to a new topic and has replicas work them off.

    Args:
        folder: with features.toml and the registry.
        kafka: the broker.
        broker_pid: its process.
        parts: the records of each partition.
        cores: of each replica.
        settings: of the replicas; topics and group are replaced.
    """
    topic = f"together-{uuid.uuid4().hex[:6]}"
    create(kafka, topic, len(parts))
    create(kafka, f"{topic}-alerts")
    own = {"features_topic": topic, "alerts_topic": f"{topic}-alerts", "group_id": topic, "session_timeout_s": 4}
    replicas = [Daemon(folder, {**settings, **own, "http_port": 0}).start() for _ in cores]
    try:
        for replica, its_cores in zip(replicas, cores, strict=True):
            pin(replica.pid, its_cores)
        _wait_until_shared(replicas, len(parts))
        publish_at_once(kafka.bootstrap, topic, parts)
        return _work_off(replicas, sum(map(len, parts)), broker_pid)
    finally:
        for replica in replicas:
            replica.stop()


def publish_at_once(bootstrap: str, topic: str, parts: Sequence[Sequence[bytes]]) -> None:
    """One transaction: nobody who reads committed records sees one of them before all are there."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": topic,
            "compression.type": "lz4",
            "linger.ms": 5,
            "batch.size": 131_072,
            "queue.buffering.max.messages": sum(map(len, parts)) + 1,
            "queue.buffering.max.kbytes": 2_000_000,
        }
    )
    producer.init_transactions()
    producer.begin_transaction()
    for partition, records in enumerate(parts):
        for record in records:
            producer.produce(topic, value=record, partition=partition)
    producer.commit_transaction()


def pin(pid: int, cores: set[int]) -> None:
    """Every thread of a process to some cores; those it starts later inherit it."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _wait_until_shared(replicas: Sequence[Daemon], partitions: int) -> None:
    """Until each reports the lag of as many partitions as the others."""
    fair = {partitions // len(replicas), -(-partitions // len(replicas))}

    def is_shared() -> bool:
        held = [sum(series.startswith("ganwatch_lag_records{") for series in one.metrics()) for one in replicas]
        return sum(held) == partitions and set(held) <= fair

    replicas[0].wait_until(is_shared, "given its share of the partitions", JOIN_TIMEOUT_S)


def _work_off(replicas: Sequence[Daemon], records: int, broker_pid: int) -> Together:
    points: list[tuple[float, float, float]] = []
    while not points or points[-1][1] < records:
        done = sum(done_records(replica.metrics()) for replica in replicas)
        if done and (not points or done > points[-1][1]):
            points.append((time.perf_counter(), done, cpu_seconds(broker_pid)))
        time.sleep(0.1)  # each scrape costs a replica milliseconds
    (first_at, first, busy), (last_at, last, busier) = points[0], points[-1]
    seconds = last_at - first_at
    return Together((last - first) / seconds, (busier - busy) / seconds)
