"""Kill -9 of the daemon while it lags, delivering exactly once: `python -m tests.benchmarks.e2e_eos KILLS`.

A reader of committed messages must find each alert once and in order. A kill counts as "in an open transaction" when the
broker then lists one of this daemon as begun and neither committed nor aborted.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from tests import machines
from tests.benchmarks.e2e_kill import TARGET_ALERT_RATE, compare, wait_until_under_way
from tests.benchmarks.goals import Goals, report
from tests.conftest import Kafka
from tests.daemon import Daemon
from tests.kafka_broker import KafkaBroker
from tests.topics import committed, publish, read_alerts

KILLS = 100
# Enough for the backlog to outlast the kills, each of which lets some hundreds of records pass.
RECORDS = 100_000
RECORDS_PER_KILL = 2000
INSTANCE = "killed-again-and-again"
GOALS: Goals = {
    "eos_lost": lambda value: value == 0,
    "eos_duplicates": lambda value: value == 0,
    "eos_reordered": lambda value: value == 0,
    "eos_wrong": lambda value: value == 0,
    "alerts_expected": lambda value: value >= 1000,
}


def main(arguments: list[str]) -> int:
    """Runs everything; returns 0 when every goal is met."""
    kills = int(arguments[0]) if arguments else KILLS
    with tempfile.TemporaryDirectory(prefix="ganwatch-eos-") as name, KafkaBroker(Path(name) / "kafka") as broker:
        folder = Path(name)
        (folder / "features.toml").write_text(machines.FEATURES_TOML)
        (folder / "registry").symlink_to(machines.REGISTRY)
        figures = run(folder, Kafka(broker.bootstrap), kills=kills, records=max(RECORDS, RECORDS_PER_KILL * kills))
    wanted: Goals = {
        "eos_kills": lambda value: value >= kills,
        "eos_kills_in_open_transaction": lambda value: value >= kills // 5,
    }
    return report(figures, GOALS | wanted)


def run(folder: Path, kafka: Kafka, *, kills: int, records: int) -> dict[str, int]:
    """Publishes a backlog, kills the daemon again and again while it works it off, and compares with an offline run."""
    values = machines.as_json(machines.readings(records, seed=21, anomalies=records // 100))
    features, alerts, dead_letters = (kafka.new_topic(stem) for stem in ("features", "alerts", "dead-letters"))
    publish(kafka.bootstrap, features, values)
    settings = {
        "bootstrap_servers": kafka.bootstrap,
        "features_topic": features,
        "alerts_topic": alerts,
        "dead_letters_topic": dead_letters,
        "group_id": f"{features}-group",
        "group_instance_id": INSTANCE,
        "delivery": "exactly_once",
        "session_timeout_s": 6,
        "target_alert_rate": TARGET_ALERT_RATE,
        "max_rows": 50,
        "log_format": "json",
    }
    rng = random.Random(0)  # noqa: S311 - moments of a test
    done = in_transaction = 0
    while done < kills:
        daemon = Daemon(folder, settings).start()
        wait_until_under_way(daemon)
        time.sleep(rng.uniform(0.0, 0.1))
        daemon.kill()
        is_open = has_open_transaction(kafka.bootstrap, f"{features}-group/{INSTANCE}")
        next_offset = committed(kafka.bootstrap, f"{features}-group", features)[0] or 0
        if next_offset >= records:
            break
        done += 1
        in_transaction += is_open
        print(f"kill {done}: committed {next_offset} of {records}; transaction open: {is_open}", flush=True)
    with Daemon(folder, settings) as daemon:
        daemon.wait_until(
            lambda: committed(kafka.bootstrap, f"{features}-group", features)[0] == records, "done with the rest", 300
        )
    found = compare(kafka, features, alerts, values)
    return {
        "records": records,
        "alerts_expected": found["alerts_expected"],
        "eos_kills": done,
        "eos_kills_in_open_transaction": in_transaction,
        "eos_lost": found["lost"],
        "eos_duplicates": found["repeated"] + found["duplicates_after_deduplication"],
        "eos_reordered": reordered(kafka.bootstrap, alerts),
        "eos_wrong": found["wrong"],
    }


def has_open_transaction(bootstrap: str, transactional_id: str) -> bool:
    """Whether the broker holds a transaction that was begun and neither committed nor aborted."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        ongoing = admin.list_transactions(state_filters=["Ongoing"])
    finally:
        admin.close()
    return any(listing.transactional_id == transactional_id for listings in ongoing.values() for listing in listings)


def reordered(bootstrap: str, alerts_topic: str) -> int:
    """How many alerts follow one of a later record."""
    offsets = [alert["record"]["offset"] for alert in read_alerts(bootstrap, alerts_topic)]
    return sum(later < earlier for earlier, later in pairwise(offsets))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
