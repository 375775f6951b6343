"""What exactly-once costs: the same backlog worked off with either delivery, in turns: `python -m tests.benchmarks.e2e_eos_cost`.

The rate is that between the first and the last record that the daemon reports as done; the start does not count.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests import machines
from tests.benchmarks.goals import Goals, report
from tests.conftest import Kafka
from tests.daemon import Daemon, done_records
from tests.kafka_broker import KafkaBroker
from tests.topics import publish

RECORDS = 400_000
ROUNDS = 3
# Of a hundred records about two become alerts.
TARGET_ALERT_RATE = 0.02
GOALS: Goals = {"exactly_once_to_at_least_once": lambda ratio: ratio >= 0.85}


def main() -> int:
    """Runs everything; returns 0 when the goal is met."""
    with tempfile.TemporaryDirectory(prefix="ganwatch-eos-cost-") as name, KafkaBroker(Path(name) / "kafka") as broker:
        folder = Path(name)
        (folder / "features.toml").write_text(machines.FEATURES_TOML)
        (folder / "registry").symlink_to(machines.REGISTRY)
        figures = run(folder, Kafka(broker.bootstrap))
    return report(figures, GOALS)


def run(folder: Path, kafka: Kafka) -> dict[str, float]:
    """Medians of both rates, their ratio, and the ratio of the CPU seconds."""
    features, alerts, dead_letters = (kafka.new_topic(stem) for stem in ("features", "alerts", "dead-letters"))
    publish(kafka.bootstrap, features, machines.as_json(machines.readings(RECORDS, seed=22)))
    rates: dict[str, list[float]] = {"at_least_once": [], "exactly_once": []}
    cpu_s: dict[str, list[float]] = {"at_least_once": [], "exactly_once": []}
    for turn in range(ROUNDS):
        for delivery in ("at_least_once", "exactly_once"):
            settings = {
                "bootstrap_servers": kafka.bootstrap,
                "features_topic": features,
                "alerts_topic": alerts,
                "dead_letters_topic": dead_letters,
                "group_id": f"{delivery}-{turn}",
                "group_instance_id": "one",
                "delivery": delivery,
                "target_alert_rate": TARGET_ALERT_RATE,
            }
            with Daemon(folder, settings) as daemon:
                rate, cpu = work_off(daemon)
            rates[delivery].append(rate)
            cpu_s[delivery].append(cpu)
            print(f"{delivery}: {rate:,.0f} records/s, {cpu:.1f} s of CPU", flush=True)
    median = {delivery: statistics.median(values) for delivery, values in rates.items()}
    ratios = [ours / theirs for ours, theirs in zip(rates["exactly_once"], rates["at_least_once"], strict=True)]
    return {
        "at_least_once_per_s": round(median["at_least_once"]),
        "exactly_once_per_s": round(median["exactly_once"]),
        "exactly_once_to_at_least_once": round(statistics.median(ratios), 3),
        "cpu_ratio": round(statistics.median(cpu_s["exactly_once"]) / statistics.median(cpu_s["at_least_once"]), 3),
    }


def work_off(daemon: Daemon) -> tuple[float, float]:
    """Records a second, and CPU seconds of the daemon, from the first to the last record done."""
    first = last = daemon.metrics()
    started = ended = time.monotonic()
    while done_records(last) < RECORDS:
        time.sleep(0.05)
        last, ended = daemon.metrics(), time.monotonic()
        if done_records(first) == 0:
            first, started = last, ended
    records = done_records(last) - done_records(first)
    return records / (ended - started), last["process_cpu_seconds_total"] - first["process_cpu_seconds_total"]


if __name__ == "__main__":
    sys.exit(main())
