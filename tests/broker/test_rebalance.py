"""Replicas come, go and restart under load: nothing is lost, no partition stands still, nothing is repeated unless promised."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from monitor.model.bundle import Bundle
from monitor.model.calibration import threshold_of, tie_breakers
from monitor.model.detection import detect
from tests.broker.conftest import Stream
from tests.daemon import Daemon
from tests.machines import as_json, readings
from tests.topics import committed, read_alerts

pytestmark = pytest.mark.broker

PARTITIONS = 8
CHUNK = 80
PAUSE_S = 0.05
LONGEST_IDLE_S = 10.0


@dataclass
class Load:
    """Records on their way into all partitions, at a steady rate, until it is told to end; and how they come out.

    Attributes:
        stream: where to.
        records: what there is to send; record n goes to partition n % PARTITIONS.
        sent: how many were.
        longest_idle_s: the longest time for which any partition with records had no progress.
    """

    stream: Stream
    records: list[bytes]
    sent: int = 0
    longest_idle_s: float = 0.0
    ending: threading.Event = field(default_factory=threading.Event)

    def send(self) -> None:
        """Sends a chunk after the other."""
        from kafka import KafkaProducer

        producer = KafkaProducer(bootstrap_servers=self.stream.kafka.bootstrap, compression_type="lz4")
        try:
            while not self.ending.wait(PAUSE_S) and self.sent < len(self.records):
                chunk = self.records[self.sent : self.sent + CHUNK]
                for number, record in enumerate(chunk, self.sent):
                    producer.send(self.stream.features, value=record, partition=number % PARTITIONS)
                producer.flush(timeout=30)
                self.sent += len(chunk)
        finally:
            producer.close()

    def watch(self) -> None:
        """Looks at the group's offsets all the time."""
        looked_at = time.monotonic()
        moved_at, seen = [looked_at] * PARTITIONS, self.offsets()
        while not self.ending.wait(0.25):
            now, offsets = time.monotonic(), self.offsets()
            slept_s = max(0.0, now - looked_at - 2.0)  # somebody held up this whole machine
            moved_at = [
                now if offsets[partition] != seen[partition] else moved_at[partition] + slept_s
                for partition in range(PARTITIONS)
            ]
            self.longest_idle_s = max(self.longest_idle_s, now - min(moved_at))
            seen, looked_at = offsets, now

    def offsets(self) -> dict[int, int | None]:
        """Next offsets of the group."""
        return committed(self.stream.kafka.bootstrap, self.stream.group, self.stream.features, range(PARTITIONS))

    @property
    def is_done(self) -> bool:
        """Whether all that was sent is committed."""
        return sum(offset or 0 for offset in self.offsets().values()) == self.sent


@contextmanager
def under_load(stream: Stream) -> Iterator[Load]:
    """Sends and watches meanwhile."""
    load = Load(stream, as_json(readings(60_000, seed=80)))
    threads = [threading.Thread(target=work) for work in (load.send, load.watch)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.ending.set()
        for thread in threads:
            thread.join()


def expected_places(bundle: Bundle, topic: str, records: list[bytes]) -> set[tuple[int, int]]:
    """Partition and offset of the records that must be flagged."""
    places = set()
    for partition in range(PARTITIONS):
        frame = bundle.decoder().decode(records[partition::PARTITIONS]).frame
        detections = detect(bundle, frame, tie_breakers(bundle.sha256, topic, partition, np.arange(len(frame))))
        places |= {(partition, int(row)) for row in np.flatnonzero(detections.score >= threshold_of(0.01))}
    return places


def finish(load: Load, daemons: list[Daemon], bundle: Bundle) -> int:
    """Waits until all is committed, ends the daemons; nothing may be lost. Returns how many alerts were repeated."""
    load.ending.set()
    time.sleep(1)
    daemons[0].wait_until(lambda: load.is_done, "done with all partitions", 60)
    for daemon in daemons:
        code, seconds = daemon.stop()
        assert code == 0
        assert seconds < 10
    alerts = read_alerts(load.stream.kafka.bootstrap, load.stream.alerts)
    places = [(alert["record"]["partition"], alert["record"]["offset"]) for alert in alerts]
    assert set(places) == expected_places(bundle, load.stream.features, load.records[: load.sent])
    assert len({alert["id"] for alert in alerts}) == len(set(places))
    return len(places) - len(set(places))


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_replicas_scale_from_one_to_four_to_two_to_three_under_load(
    new_stream: Callable[[int], Stream], machines_bundle: Bundle, delivery: str
) -> None:
    stream = new_stream(PARTITIONS)

    def start(number: int) -> Daemon:
        name = {"group_instance_id": f"replica-{number}"} if delivery == "exactly_once" else {}
        daemon = stream.daemon(delivery=delivery, session_timeout_s=3, max_rows=200, **name).start()
        daemon.wait_until_ready()
        return daemon

    with under_load(stream) as load:
        daemons = [start(0)]
        daemons += [start(number) for number in (1, 2, 3)]
        time.sleep(3)
        for daemon in (daemons.pop(0), daemons.pop(0)):
            assert daemon.stop()[0] == 0
        time.sleep(4)
        daemons.append(start(4))
        time.sleep(3)
        repeated = finish(load, daemons, machines_bundle)
    assert load.sent > 5000
    assert load.longest_idle_s < LONGEST_IDLE_S
    if delivery == "exactly_once":
        assert repeated == 0


@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
def test_a_rolling_restart_loses_nothing_and_static_members_repeat_nothing(
    new_stream: Callable[[int], Stream], machines_bundle: Bundle, *, static: bool
) -> None:
    stream = new_stream(PARTITIONS)

    def start(number: int) -> Daemon:
        name = {"group_instance_id": f"replica-{number}"} if static else {}
        daemon = stream.daemon(session_timeout_s=10, max_rows=200, **name).start()
        daemon.wait_until_ready()
        return daemon

    daemons = [start(number) for number in range(3)]
    time.sleep(2)  # until each has its partitions: what is about to be given away may be repeated
    with under_load(stream) as load:
        for number in range(3):
            code, seconds = daemons[number].stop()
            assert code == 0
            assert seconds < 10
            daemons[number] = start(number)
        repeated = finish(load, daemons, machines_bundle)
    assert load.longest_idle_s < LONGEST_IDLE_S
    if static:
        assert repeated == 0
