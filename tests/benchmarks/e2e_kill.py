"""Kill -9 of the daemon while it lags: `make e2e-kill`. Nothing may be lost; repeated alerts must bear equal ids.

A kill counts as "between send and commit" when the alert topic then holds alerts of records at or beyond the committed
offset: they were sent, their offsets were not committed.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from monitor.model.bundle import Bundle, load_bundle
from monitor.model.calibration import threshold_of, tie_breakers
from monitor.model.detection import detect
from monitor.model.registry import Registry
from tests import machines
from tests.benchmarks.goals import Goals, report
from tests.conftest import Kafka
from tests.daemon import Daemon
from tests.kafka_broker import KafkaBroker
from tests.topics import committed, publish, read_alerts

KILLS = 10
RECORDS = 200_000
TARGET_ALERT_RATE = 0.05
GOALS: Goals = {
    "lost": lambda value: value == 0,
    "duplicates_after_deduplication": lambda value: value == 0,
    "wrong": lambda value: value == 0,
    "kills": lambda value: value >= KILLS,
    "kills_between_send_and_commit": lambda value: value >= 1,
}


def main() -> int:
    """Runs everything; returns 0 when every goal is met."""
    with tempfile.TemporaryDirectory(prefix="ganwatch-kill-") as name, KafkaBroker(Path(name) / "kafka") as broker:
        folder = Path(name)
        (folder / "features.toml").write_text(machines.FEATURES_TOML)
        (folder / "registry").symlink_to(machines.REGISTRY)
        figures = run(folder, Kafka(broker.bootstrap))
    return report(figures, GOALS)


def run(folder: Path, kafka: Kafka, *, kills: int = KILLS, records: int = RECORDS) -> dict[str, int]:
    """Publishes a backlog, kills the daemon again and again while it works it off, and compares with an offline run."""
    values = machines.as_json(machines.readings(records, seed=20, anomalies=records // 100))
    features, alerts, dead_letters = (kafka.new_topic(stem) for stem in ("features", "alerts", "dead-letters"))
    publish(kafka.bootstrap, features, values)
    settings = {
        "bootstrap_servers": kafka.bootstrap,
        "features_topic": features,
        "alerts_topic": alerts,
        "dead_letters_topic": dead_letters,
        "group_id": f"{features}-group",
        "group_instance_id": "killed-again-and-again",
        "session_timeout_s": 6,
        "target_alert_rate": TARGET_ALERT_RATE,
        "max_rows": 200,
    }
    rng = random.Random(0)  # noqa: S311 - moments of a test
    done = between = 0
    while done < kills:
        daemon = Daemon(folder, settings).start()
        before = committed(kafka.bootstrap, str(settings["group_id"]), features)[0] or 0
        wait_until_under_way(daemon)
        time.sleep(rng.uniform(0.0, 0.15))
        daemon.kill()
        next_offset = committed(kafka.bootstrap, str(settings["group_id"]), features)[0] or 0
        if next_offset >= records:
            break
        done += 1
        sent = max((alert["record"]["offset"] for alert in read_alerts(kafka.bootstrap, alerts)), default=-1)
        between += sent >= next_offset
        print(f"kill {done}: committed {before} → {next_offset} of {records}, last alert of record {sent}", flush=True)
    with Daemon(folder, settings) as daemon:
        daemon.wait_until(
            lambda: committed(kafka.bootstrap, str(settings["group_id"]), features)[0] == records,
            "done with the rest",
            120,
        )
    return compare(kafka, features, alerts, values) | {"kills": done, "kills_between_send_and_commit": between}


def wait_until_under_way(daemon: Daemon) -> None:
    """Waits for the first acknowledged micro-batch."""
    daemon.wait_until(lambda: daemon.metrics().get("ganwatch_records_scored_total", 0) > 0, "under way", pause_s=0.01)


def compare(kafka: Kafka, topic: str, alerts_topic: str, values: list[bytes]) -> dict[str, int]:
    """What the alert topic holds against what an offline run flags."""
    registry = Registry(str(machines.REGISTRY))
    bundle = load_bundle(registry.fetch("machines", registry.champion("machines")))
    expected = offline(bundle, topic, values)
    alerts = read_alerts(kafka.bootstrap, alerts_topic)
    by_id = {alert["id"]: (alert["record"]["offset"], alert["raw_score"]) for alert in alerts}
    places = Counter(offset for offset, _ in by_id.values())
    return {
        "records": len(values),
        "alerts_expected": len(expected),
        "alerts_sent": len(alerts),
        "repeated": len(alerts) - len(by_id),
        "duplicates_after_deduplication": sum(count - 1 for count in places.values()),
        "lost": len(expected.keys() - places.keys()),
        "wrong": sum(expected.get(offset) != raw_score for offset, raw_score in by_id.values()),
    }


def offline(bundle: Bundle, topic: str, values: list[bytes]) -> dict[int, float]:
    """Offset → raw score of the records that must be flagged."""
    frame = bundle.decoder().decode(values).frame
    detections = detect(bundle, frame, tie_breakers(bundle.sha256, topic, 0, np.arange(len(values))))
    rows = np.flatnonzero(detections.score >= threshold_of(TARGET_ALERT_RATE))
    return {int(row): float(detections.raw_score[row]) for row in rows}


if __name__ == "__main__":
    sys.exit(main())
