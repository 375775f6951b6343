"""A thousand hot swaps between two models under a steady load: nothing lost, every alert one model's own, no pause.

`python -m tests.benchmarks.e2e_swaps [--swaps N]`. Each model is there in two versions. Small records of `tests.machines`, at a
rate that is a share of what a loop reaches that only polls, measured just before. The guard is off: it would watch each model for
longer than these are in service.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.model.calibration import score_of, threshold_of, tie_breakers
from monitor.model.registry import Registry
from tests import machines
from tests.benchmarks.goals import report
from tests.benchmarks.kdd99_stream import bare_poll, say
from tests.bundles import bundle_created
from tests.challengers import calibrated
from tests.conftest import Kafka
from tests.daemon import Daemon, done_records
from tests.kafka_broker import KafkaBroker
from tests.machines import as_json, readings
from tests.topics import read_all
from training.history import History

LATER = "2030-01-01T00:00:00+00:00"
DISTINCT = 50_000
RATE = 0.01
# Between two promotions: ten a second.
PACE_S = 0.1
LOAD = 0.65
# For the loop that only polls.
BARE_RECORDS = 3_000_000
# Between two portions of the load; a portion has the records that are due by then.
PORTION_S = 0.01
# A promotion is synced to the disk, which a broker under load keeps busy.
MEMORY = Path("/dev/shm")  # noqa: S108
GOALS = {
    "swaps": lambda value: value >= 1000,
    "swap_lost": lambda value: value == 0,
    "swap_wrong": lambda value: value == 0,
    "swap_pause_p99_s": lambda value: value < 0.1,
    "swap_load_ratio": lambda value: value >= 0.5,
}


def main() -> int:
    """Runs, prints the figures; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, KafkaBroker(Path(folder) / "kafka") as broker:
        return report(run(Path(folder), Kafka(broker.bootstrap), arguments.swaps), GOALS)


def run(folder: Path, kafka: Kafka, swaps: int) -> dict[str, float]:
    """So many swaps under load.

    Returns:
        The figures: swaps made, records, lost and wrong alerts, seconds of pause, rate against a loop that only polls.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.exists() else None) as place:
        registry_folder = Path(place) / "registry"
        shutil.copytree(machines.REGISTRY, registry_folder)
        return swap_under_load(folder, kafka, Registry(str(registry_folder)), swaps)


def swap_under_load(folder: Path, kafka: Kafka, registry: Registry, swaps: int) -> dict[str, float]:
    """The same with a registry of its own."""
    home = folder / "swaps"
    home.mkdir()
    (home / "features.toml").write_text(machines.FEATURES_TOML)
    other = calibrated(History(readings(3000, seed=1), "tests", None), home / "other")
    versions = [registry.champion("machines"), registry.publish(other)]
    # The daemon keeps the predecessor at hand, so only of more than two is each loaded and verified anew.
    for version in tuple(versions):
        again = bundle_created(LATER, home / f"{version}-again", registry.load("machines", version))
        versions.append(registry.publish(again))
    topics = {name: kafka.new_topic(name) for name in ("warm-up", "features", "alerts", "dead-letters", "events")}
    distinct = as_json(readings(DISTINCT, seed=2, anomalies=DISTINCT // 200))
    say(f"publishing {BARE_RECORDS} records for the loop that only polls")
    publish_rounds(kafka, topics["warm-up"], distinct, BARE_RECORDS // DISTINCT)
    bare = bare_poll(kafka, topics["warm-up"], BARE_RECORDS)
    say(f"it polls {bare:.0f} records/s; {swaps} swaps under {LOAD:.0%} of that")
    settings = {
        "bootstrap_servers": kafka.bootstrap,
        "features_topic": topics["features"],
        "alerts_topic": topics["alerts"],
        "dead_letters_topic": topics["dead-letters"],
        "model_events_topic": topics["events"],
        "group_id": "swaps",
        "target_alert_rate": RATE,
        "registry": registry.url,
        "registry_poll_s": 0.05,
        "guard_records": 0,
        "alert_payload": False,
        "log_format": "json",
    }
    with Daemon(home, settings) as daemon:
        daemon.wait_until_ready()
        with steady_load(kafka, topics["features"], distinct, LOAD * bare) as load:
            rate = swap_again_and_again(daemon, registry, versions, swaps)
        sent = load.result()
        daemon.wait_until_done(sent, timeout_s=300)
        metrics = daemon.metrics()
        rss_mb = daemon.resident_mb(peak=True)
    alerts = [json.loads(record.value) for record in read_all(kafka.bootstrap, topics["alerts"])]
    events = [json.loads(record.value) for record in read_all(kafka.bootstrap, topics["events"])]
    lost, wrong = compare(registry, topics["features"], distinct, sent, alerts)
    swapped = [event for event in events if event["kind"] == "swapped"]
    gaps, around = silences(alerts, swapped)
    usual = float(np.median(gaps))
    return {
        "swaps": len(swapped),
        "swap_records": sent,
        "swap_alerts": len(alerts),
        "swap_lost": lost + abs(sent - metrics["ganwatch_records_scored_total"]),
        "swap_wrong": wrong,
        "swap_rolled_back": metrics['ganwatch_model_swaps_total{outcome="rolled_back"}'],
        "swap_pause_p99_s": round(max(0.0, float(np.quantile(around, 0.99)) - usual), 3),
        "batch_period_s": round(usual, 3),
        "batch_period_p99_s": round(float(np.quantile(gaps, 0.99)), 3),
        "swap_load_ratio": round(rate / bare, 3),
        "swap_records_per_s": round(rate),
        "bare_records_per_s": round(bare),
        "swap_rss_mb": round(rss_mb),
    }


def fast_producer(kafka: Kafka) -> Any:
    """One by librdkafka, which is many times as fast."""
    from confluent_kafka import Producer

    return Producer({"bootstrap.servers": kafka.bootstrap, "compression.type": "lz4", "linger.ms": 20})


def publish_rounds(kafka: Kafka, topic: str, distinct: Sequence[bytes], rounds: int) -> None:
    """The same records again and again, as fast as it goes."""
    producer = fast_producer(kafka)
    for _ in range(rounds):
        for value in distinct:
            producer.produce(topic, value, partition=0)
            producer.poll(0)
        producer.flush()


@contextmanager
def steady_load(kafka: Kafka, topic: str, distinct: Sequence[bytes], per_s: float) -> Iterator[Future[int]]:
    """The same records again and again, so many a second, meanwhile; how many there were is known after the block."""
    ending = threading.Event()

    def publish() -> int:
        producer, started, sent = fast_producer(kafka), time.perf_counter(), 0
        while not ending.wait(PORTION_S):
            due = int(per_s * (time.perf_counter() - started))
            with suppress(BufferError):  # as many are on their way as it holds; the others come late
                while sent < due:
                    producer.produce(topic, distinct[sent % len(distinct)], partition=0)
                    sent += 1
            producer.poll(0)
        producer.flush()
        return sent

    with ThreadPoolExecutor(1) as executor:
        try:
            yield executor.submit(publish)
        finally:
            ending.set()


def swap_again_and_again(daemon: Daemon, registry: Registry, versions: Sequence[str], swaps: int) -> float:
    """Promotes one version after the other, until there were so many swaps; records per second meanwhile."""
    started, begun = time.perf_counter(), done_records(daemon.metrics())
    for number in range(10 * swaps):
        registry.promote("machines", versions[(number + 1) % len(versions)], author="human", reason=f"swap {number}")
        time.sleep(PACE_S)
        if number % 20 == 0 and daemon.metrics()['ganwatch_model_swaps_total{outcome="done"}'] >= swaps:
            break
    return (done_records(daemon.metrics()) - begun) / (time.perf_counter() - started)


def compare(
    registry: Registry, topic: str, distinct: Sequence[bytes], sent: int, alerts: Sequence[dict[str, Any]]
) -> tuple[int, int]:
    """Alerts that both models would raise and that are not there; alerts whose score is not that of the model they name."""
    scores = {}
    for version in registry.versions("machines"):
        bundle = registry.load("machines", version)
        frame = bundle.decoder().decode(distinct).frame
        raw = bundle.scorer.score(bundle.preprocessor.transform(frame).X)
        offsets = np.arange(sent)
        tie = tie_breakers(bundle.sha256, topic, 0, offsets)
        scores[version] = score_of(bundle.calibration.p_values(raw[offsets % len(distinct)], tie))
    by_both = np.all([score >= threshold_of(RATE) for score in scores.values()], axis=0)
    found = np.array([alert["record"]["offset"] for alert in alerts])
    lost = len(np.setdiff1d(np.flatnonzero(by_both), found))
    expected = np.array([scores[alert["model"]["version"]][alert["record"]["offset"]] for alert in alerts])
    stated = np.array([alert["score"] for alert in alerts])
    repeated = len(found) - len(np.unique(found))
    return lost, int((np.abs(stated - expected) > 0.01).sum()) + repeated


def silences(
    alerts: Sequence[dict[str, Any]], swapped: Sequence[dict[str, Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds between two micro-batches that raised alerts, of all of them and of those around each swap.

    All alerts of a micro-batch bear the moment it was judged. Around a swap is the longer one of the time in which it was made
    and of the one before, in which the model was loaded. A pause is what that has more than the usual one, which is the
    micro-batch itself.
    """
    at = np.unique([seconds(alert["detected_at"]) for alert in alerts])
    gaps = np.diff(at)
    moments = np.array([seconds(event["time"]) for event in swapped])
    after = np.clip(np.searchsorted(at, moments), 1, len(at) - 1)
    return gaps, np.maximum(gaps[after - 1], gaps[np.maximum(after - 2, 0)])


def seconds(stamp: str) -> float:
    """Of an ISO 8601 time."""
    return datetime.fromisoformat(stamp).timestamp()


if __name__ == "__main__":
    raise SystemExit(main())
