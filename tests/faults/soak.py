"""Rows 19 and 20: millions of records through one daemon, and a burst of ten times what it is used to."""

from __future__ import annotations

import functools
import multiprocessing
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer

from tests.broker.conftest import Stream
from tests.daemon import Daemon, done_records
from tests.faults.outcome import Outcome
from tests.faults.stage import Stage, next_offsets, wait_until_committed, wait_until_under_way
from tests.machines import as_json, readings

MB_PER_MILLION = 1.0
SCRAPE_P99_S = 0.25
# Native allocators need a while until they have what they will ever need.
WARM_UP = 0.2
RARE = 0.001
SAMPLE_S = 0.1
DISTINCT = 50_000
TURN = 250_000
LULL_S = 0.5
STEADY_PER_S = 2000.0
DRAIN = 0.8
BURST = 1  # the burst's partition: an open transaction hides what is behind it
FAST: dict[str, str | int] = {
    "compression.type": "lz4",
    "linger.ms": 50,
    "batch.size": 900_000,
    "queue.buffering.max.messages": 200_000,
}


@dataclass
class Samples:
    """What a daemon looks like from outside, again and again.

    Attributes:
        done: records.
        resident_mb: memory.
        descriptors: open files and sockets.
        threads: of the process.
        scrape_s: how long the scrape took.
    """

    done: list[float] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    scrape_s: list[float] = field(default_factory=list)

    def take(self, daemon: Daemon) -> None:
        """Adds one."""
        started = time.perf_counter()
        metrics = daemon.metrics()
        self.scrape_s.append(time.perf_counter() - started)
        process = Path(f"/proc/{daemon.pid}")
        self.done.append(done_records(metrics))
        self.resident_mb.append(daemon.resident_mb())
        self.descriptors.append(len(list((process / "fd").iterdir())))
        self.threads.append(len(list((process / "task").iterdir())))


def slope(millions: Sequence[float], mb: Sequence[float]) -> float:
    """MB by which memory grows with a million records: least squares."""
    return float(np.polynomial.Polynomial.fit(millions, mb, 1).convert().coef[1])


def growth(values: Sequence[float]) -> float:
    """Median of the last quarter less that of the first one."""
    quarter = max(1, len(values) // 4)
    return statistics.median(values[-quarter:]) - statistics.median(values[:quarter])


def soak(stage: Stage, seed: int, *, records: int = 15_000_000) -> Outcome:
    """Row 19. Published beside it as fast as that goes, with a lull after each turn, in which memory is measured."""
    stream = stage.stream()
    samples = Samples()
    lulls: list[int] = []  # samples taken when nothing was on its way: its size is the noise in which a leak hides
    context = multiprocessing.get_context("spawn")
    turns = context.Semaphore(0)
    # A process of its own, or the scrapes would wait for the publisher's turns of the interpreter.
    publisher = context.Process(
        target=publish_in_turns, args=(stage.broker.bootstrap, stream.features, records, seed, turns), daemon=True
    )
    publisher.start()
    with stream.daemon(target_alert_rate=RARE) as daemon:
        daemon.wait_until_ready()
        started = time.monotonic()
        for turn in range(1, records // TURN + 1):
            turns.release()
            while not samples.done or samples.done[-1] < turn * TURN:
                samples.take(daemon)
                assert publisher.exitcode in {None, 0}, "the publisher failed"
                time.sleep(SAMPLE_S)
            time.sleep(LULL_S)
            samples.take(daemon)
            lulls.append(len(samples.done) - 1)
        seconds = time.monotonic() - started - LULL_S * len(lulls)
        publisher.join()
        wait_until_committed(daemon, stream, records)
        consumed = daemon.metrics()["ganwatch_records_consumed_total"]
        code, _ = daemon.stop()
    warm = lulls[int(WARM_UP * len(lulls)) :]
    mb_per_million = slope([samples.done[at] / 1e6 for at in warm], [samples.resident_mb[at] for at in warm])
    more_files, more_threads = (growth(values[warm[0] :]) for values in (samples.descriptors, samples.threads))
    p99_s = float(np.quantile(samples.scrape_s, 0.99))
    return Outcome(
        demands={
            "every record once": consumed == records == next_offsets(stream) and publisher.exitcode == 0,
            "no crash": code == 0,
            f"memory grows by at most {MB_PER_MILLION:g} MB in a million records": mb_per_million <= MB_PER_MILLION,
            "descriptors are flat": more_files <= 0,
            "threads are flat": more_threads <= 0,
            f"p99 of a scrape below {SCRAPE_P99_S:g} s": p99_s < SCRAPE_P99_S,
        },
        figures={
            "soak_records": records,
            "soak_records_per_s": round(records / seconds),
            "soak_mb_per_million": round(mb_per_million, 3),
            "soak_growth_in_5_million": round(5 * mb_per_million / samples.resident_mb[warm[0]], 4),
            "soak_peak_mb": round(max(samples.resident_mb), 1),
            "soak_descriptors_growth": more_files,
            "soak_threads_growth": more_threads,
            "soak_scrape_p99_s": round(p99_s, 4),
        },
        notes=f"{records / 1e6:g} M records, {records / seconds:,.0f}/s; memory {mb_per_million:+.2f} MB per million, "
        f"at most {max(samples.resident_mb):.0f} MB; p99 of a scrape {1000 * p99_s:.0f} ms",
    )


def publish_in_turns(bootstrap: str, topic: str, records: int, seed: int, turns: Any) -> None:
    """Publishes distinct records again and again, in large batches, so many for each release of the semaphore."""
    producer = Producer(FAST | {"bootstrap.servers": bootstrap})
    for _ in range(records // TURN):
        turns.acquire()
        _produce(producer, topic, TURN, seed, partition=0)
        assert producer.flush(120) == 0


@functools.cache
def _distinct(seed: int) -> list[bytes]:
    return as_json(readings(DISTINCT, seed=9000 + seed))


def _produce(producer: Producer, topic: str, records: int, seed: int, partition: int) -> None:
    values = _distinct(seed)
    for number in range(records):
        while True:
            try:
                producer.produce(topic, value=values[number % DISTINCT], partition=partition)
                break
            except BufferError:
                producer.poll(0.05)


def burst(stage: Stage, seed: int, *, records: int = 1_500_000) -> Outcome:
    """Row 20. The burst is there at once, as far as the daemon can see: it is one transaction, committed when all is published.

    What the daemon can do at most is measured on the same records in the same run, as a backlog. T: until the lag is 0.
    """
    stream = stage.stream(partitions=2)
    producer = Producer(FAST | {"bootstrap.servers": stage.broker.bootstrap, "transactional.id": stream.group})
    producer.init_transactions()
    producer.begin_transaction()
    _produce(producer, stream.features, records, seed, partition=BURST)
    producer.flush(120)
    with steady(stream) as sent:
        with stream.daemon(target_alert_rate=RARE) as daemon:
            wait_until_under_way(daemon, int(2 * STEADY_PER_S))
            producer.commit_transaction()
            per_s, drained_s = _drain(daemon, records)
        with stream.daemon(target_alert_rate=RARE, group_id=f"{stream.group}-peak") as daemon:
            wait_until_under_way(daemon)
            peak_per_s, _ = _drain(daemon, records)
    with stream.daemon() as daemon:
        wait_until_committed(daemon, stream, records + sent[0], partitions=2)
    return Outcome(
        demands={f"the lag drains at {DRAIN:.0%} of the peak rate": per_s >= DRAIN * peak_per_s},
        recover_s=drained_s,
        figures={"burst_per_s": round(per_s), "peak_per_s": round(peak_per_s)},
        notes=f"{records:,} records at once beside {STEADY_PER_S:,.0f}/s: {per_s:,.0f}/s, {per_s / peak_per_s:.0%} of the peak",
    )


def _drain(daemon: Daemon, records: int) -> tuple[float, float]:
    """Records a second until so many are done, and the seconds that took."""
    before, started = done_records(daemon.metrics()), time.monotonic()
    daemon.wait_until(lambda: done_records(daemon.metrics()) >= before + records, "done with it", 120)
    seconds = time.monotonic() - started
    return (done_records(daemon.metrics()) - before) / seconds, seconds


@contextmanager
def steady(stream: Stream) -> Iterator[list[int]]:
    """Meanwhile records come into the first partition at a steady rate; the list holds how many, once it is over."""
    ending, sent = threading.Event(), [0]

    def send() -> None:
        producer = Producer(FAST | {"bootstrap.servers": stream.kafka.bootstrap, "linger.ms": 5})
        while not ending.wait(0.1):
            _produce(producer, stream.features, int(STEADY_PER_S / 10), seed=0, partition=0)
            sent[0] += int(STEADY_PER_S / 10)
        assert producer.flush(30) == 0

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        ending.set()
        thread.join()
