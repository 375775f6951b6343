"""Records on their way into all partitions at a steady rate, and a watch on how they come out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.broker.conftest import Stream
from tests.machines import as_json, readings

CHUNK = 50


@dataclass
class Load:
    """A sender and a watcher.

    Attributes:
        stream: where to.
        partitions: of the features topic; record n goes to n % partitions.
        records: what is sent again and again; each time it has another sequence number.
        per_s: how many are sent a second.
        sent: how many were.
        longest_idle_s: the longest time for which a partition, into which records flow, had no progress.
        ending: set when no more is to be sent.
    """

    stream: Stream
    partitions: int
    records: list[bytes]
    per_s: float
    sent: int = 0
    longest_idle_s: float = 0.0
    ending: threading.Event = field(default_factory=threading.Event)

    def send(self) -> None:
        """Sends a chunk after the other, as long as there are records."""
        from kafka import KafkaProducer

        producer = KafkaProducer(bootstrap_servers=self.stream.kafka.bootstrap, compression_type="lz4")
        try:
            while not self.ending.wait(CHUNK / self.per_s) and self.sent < len(self.records):
                chunk = self.records[self.sent : self.sent + CHUNK]
                for number, record in enumerate(chunk, self.sent):
                    producer.send(self.stream.features, value=record, partition=number % self.partitions)
                producer.flush(timeout=30)
                self.sent += len(chunk)
        finally:
            producer.close()

    def watch(self) -> None:
        """Looks at the group's offsets all the time."""
        from kafka import KafkaAdminClient, TopicPartition

        admin = KafkaAdminClient(bootstrap_servers=self.stream.kafka.bootstrap)
        places = [TopicPartition(self.stream.features, number) for number in range(self.partitions)]
        looked_at = time.monotonic()
        moved_at, seen = dict.fromkeys(places, looked_at), dict.fromkeys(places, -1)
        try:
            while not self.ending.wait(0.25):
                found = admin.list_group_offsets({self.stream.group: places})[self.stream.group]
                now = time.monotonic()
                slept_s = max(0.0, now - looked_at - 2.0)  # somebody held up this whole machine
                for place in places:
                    moved_at[place] = now if found[place].offset != seen[place] else moved_at[place] + slept_s
                    seen[place] = found[place].offset
                self.longest_idle_s = max(self.longest_idle_s, now - min(moved_at.values()))
                looked_at = now
        finally:
            admin.close()


@contextmanager
def under_load(stream: Stream, partitions: int, *, per_s: float, longest_s: float, seed: int) -> Iterator[Load]:
    """Sends and watches meanwhile; the end of the block ends both."""
    n = int(per_s * longest_s)
    values = as_json(readings(n, seed=2000 + seed, anomalies=n // 100))
    load = Load(stream, partitions, values[::-1], per_s)  # the anomalies come first: none is missed by ending early
    threads = [threading.Thread(target=work) for work in (load.send, load.watch)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.ending.set()
        for thread in threads:
            thread.join()
