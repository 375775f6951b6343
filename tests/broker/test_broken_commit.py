"""The broker vanishes at the worst moment of exactly-once, between the offsets and the commit of a transaction."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from monitor.model.bundle import Bundle
from monitor.settings import Settings
from monitor.stream import transactional_sink
from monitor.stream.batches import MicroBatch
from monitor.stream.broker import Cluster
from monitor.stream.pipeline import Pipeline
from monitor.stream.source import Source
from monitor.stream.transactional_sink import TransactionalSink, Wait
from monitor.stream.transactions import Transaction
from monitor.telemetry.metrics import Metrics
from tests.broker.conftest import Stream
from tests.broker.test_delivery import expected_alerts, found_alerts
from tests.conftest import Kafka
from tests.daemon import done_records
from tests.kafka_broker import KafkaBroker
from tests.machines import as_json, readings
from tests.topics import committed, publish, read_all

pytestmark = [
    pytest.mark.broker,
    # The client leaves sockets of failed connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker that these tests stop, each of which leaves it running."""
    quick = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "500"}
    with KafkaBroker(tmp_path_factory.mktemp("mortal"), quick) as broker:
        yield broker
    collect_clients()


def collect_clients() -> None:
    """Here and not in somebody else's test."""
    for thread in threading.enumerate():
        if thread.name.endswith("network-thread"):
            thread.join(15)  # that of a dropped producer, which may still wait for the broker that was
    gc.collect()


@pytest.fixture
def stream(mortal: KafkaBroker, machines_folder: Path) -> Stream:
    """A stream on that broker."""
    kafka = Kafka(mortal.bootstrap)
    features, alerts, dead_letters = (kafka.new_topic(stem) for stem in ("features", "alerts", "dead-letters"))
    return Stream(kafka, machines_folder, features, alerts, dead_letters, f"group-{uuid.uuid4().hex[:8]}")


class HitSink(TransactionalSink):
    """Does something once, just before it asks for its first commit."""

    before_commit: Callable[[], None] | None = None

    def commit(self, wait: Wait) -> None:
        if self.before_commit is not None:
            hit, self.before_commit = self.before_commit, None
            hit()
        super().commit(wait)


def deliver_one_batch(stream: Stream, bundle: Bundle, records: list[bytes], before_commit: Callable[[], None]) -> float:
    """Polls all records as one micro-batch and delivers it; returns the seconds that took."""
    publish(stream.kafka.bootstrap, stream.features, records)
    settings = Settings.model_validate(
        stream.settings(delivery="exactly_once", group_instance_id="one", session_timeout_s=20, broker_timeout_s=2)
    )
    source = Source(settings, Metrics(CollectorRegistry()))
    sink = HitSink(settings)
    sink.before_commit = before_commit
    segments = []
    deadline = time.monotonic() + 30
    while sum(map(len, segments)) < len(records) and time.monotonic() < deadline:
        segments += source.poll(0.2, len(records))
    pipeline = Pipeline(bundle, settings, Cluster("c", "t"))
    judged = pipeline.judge(MicroBatch(tuple(segments), time.monotonic()))
    started = time.monotonic()
    with ThreadPoolExecutor(1) as worker:
        transaction = Transaction(sink, source, judged)
        delivery = worker.submit(transaction.complete, threading.Event(), lambda *_: None)
        while not delivery.done():
            source.poll(0.1, 1)  # the group keeps its member
        assert delivery.result() == [judged]
    took_s = time.monotonic() - started
    source.close(2.0)
    sink.close(0.5)
    del source, sink, transaction, delivery
    collect_clients()
    return took_s


def assert_delivered_once(stream: Stream, bundle: Bundle, records: list[bytes]) -> None:
    assert found_alerts(stream) == expected_alerts(bundle, stream.features, records, list(range(len(records))))
    assert committed(stream.kafka.bootstrap, stream.group, stream.features)[0] == len(records)


def test_a_broker_that_dies_during_the_commit_is_waited_for_and_all_is_delivered_once(
    mortal: KafkaBroker, stream: Stream, machines_bundle: Bundle
) -> None:
    records = as_json(readings(500, seed=60, anomalies=20))
    back = threading.Timer(2.0, mortal.start)

    def die() -> None:
        mortal.stop(signal.SIGKILL)
        back.start()

    deliver_one_batch(stream, machines_bundle, records, die)
    back.join()
    assert_delivered_once(stream, machines_bundle, records)


def test_a_commit_without_an_answer_is_given_up_in_time_and_not_made_twice_when_it_took_place(
    mortal: KafkaBroker, stream: Stream, machines_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactional_sink, "WATCHDOG_S", 2.0)  # in service it is longer
    records = as_json(readings(500, seed=61, anomalies=20))
    awake = threading.Timer(5.0, os.kill, (mortal.pid, signal.SIGCONT))

    def fall_silent() -> None:
        """What is asked meanwhile lies in the socket: the broker answers it after we have given up."""
        os.kill(mortal.pid, signal.SIGSTOP)
        awake.start()

    took_s = deliver_one_batch(stream, machines_bundle, records, fall_silent)
    awake.join()
    assert took_s > 5
    assert_delivered_once(stream, machines_bundle, records)


def test_an_outage_under_load_loses_and_repeats_nothing(
    mortal: KafkaBroker, stream: Stream, machines_bundle: Bundle
) -> None:
    records = as_json(readings(12_000, seed=62, anomalies=120))
    publish(stream.kafka.bootstrap, stream.features, records)
    with stream.daemon(delivery="exactly_once", group_instance_id="one", max_rows=50, session_timeout_s=10) as daemon:
        daemon.wait_until(lambda: done_records(daemon.metrics()) > 500, "under way", pause_s=0.01)
        mortal.stop(signal.SIGKILL)
        time.sleep(1)
        before = daemon.metrics()
        assert done_records(before) < 12_000, "the outage came too late to be under load"
        mortal.start()
        daemon.wait_until_done(12_000)
        assert daemon.get("/healthz")[0] == 200
        assert daemon.stop()[0] == 0
    assert_delivered_once(stream, machines_bundle, records)
    offsets = [record.offset for record in read_all(stream.kafka.bootstrap, stream.alerts)]
    assert len(offsets) == len(set(offsets))
