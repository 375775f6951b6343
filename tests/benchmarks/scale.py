"""How the daemon's rate changes with replicas, features, micro-batches, records and alerts, as one picture: `make bench-scale`.

Replicas share a topic of 8 partitions whose records all appear at once, and the cores of this machine with the broker. What
depends on the features is measured on simulated rows, with networks of the preset `default` that have made few steps, since
what they learn does not change their speed; everything else on KDD99, with the bundle that `ganwatch train` makes there.
Beside each rate stands that of a loop that only polls the same records, where these differ.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from monitor.model.registry import Registry
from monitor.model.schema import Schema
from tests.benchmarks.goals import report
from tests.benchmarks.kdd99_stream import (
    World,
    backlog_rate,
    bare_poll,
    champion,
    create,
    data_folder,
    draw,
    prepare,
    say,
    write_schema,
)
from tests.benchmarks.live_alerts import LiveAlerts
from tests.benchmarks.panels import BARE, OURS, Panel, draw_panels
from tests.benchmarks.replicas import replicas_rate
from tests.benchmarks.throughput import settings_of
from tests.conftest import Kafka
from tests.daemon import Daemon
from tests.kafka_broker import KafkaBroker
from training.history import History
from training.train import TrainingPlan, train_model

PARTITIONS = 8
REPLICAS = (1, 2, 4)
FEATURES = (10, 41, 121, 1000)
MAX_ROWS = (64, 256, 1024, 8192, 20_480)
PADDINGS = (0, 1000, 4000, 16_000)
ALERT_RATES = (0.0001, 0.001, 0.01, 0.1)
# A backlog has at most so many records and bytes: a few seconds of work.
MOST_RECORDS, MOST_BYTES = 200_000, 250_000_000


def main() -> int:
    """Measures, draws, prints; there is no goal but the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/scale.png"), help="the picture")
    parser.add_argument("--repetitions", type=int, default=1, help="runs of each point, of which the median is drawn")
    arguments = parser.parse_args()
    data = data_folder(parser)
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="ganwatch-scale-") as name,
        KafkaBroker(Path(name) / "kafka") as broker,
    ):
        world = prepare(Path(name), Kafka(broker.bootstrap), data)
        panels = measure(world, broker.pid, arguments.repetitions)
        sha256 = champion(world.folder).sha256
    title = f"records per second of ganwatch on {os.cpu_count()} cores, which it shares with the broker"
    draw_panels(panels, title, arguments.out)
    say(f"wrote {arguments.out} after {time.monotonic() - started:.0f} s")
    figures: dict[str, Any] = {key: value for panel in panels for key, value in panel.figures().items()}
    return report(figures | {"bundle_sha256": sha256}, {})


def measure(world: World, broker_pid: int, repetitions: int) -> list[Panel]:
    """All panels."""
    create(world.kafka, "dead-letters")
    records = draw(world, MOST_RECORDS, 0.0)
    backlogs = Backlogs(world, repetitions)
    topic = backlogs.publish(records)
    return [
        *scale_replicas(world, broker_pid, records, repetitions),
        scale_features(backlogs),
        scale_batches(backlogs, topic),
        scale_record_size(backlogs, records),
        scale_alerts(backlogs, topic),
    ]


@dataclass
class Backlogs:
    """Topics that are worked off, each a few times.

    Attributes:
        world: the broker and the model of KDD99.
        repetitions: how often; the median counts.
    """

    world: World
    repetitions: int

    def publish(self, records: Sequence[bytes]) -> str:
        """A new topic with a backlog; returns its name."""
        topic = f"backlog-{secrets.token_hex(3)}"
        create(self.world.kafka, topic)
        create(self.world.kafka, f"{topic}-alerts")
        LiveAlerts(self.world.kafka.bootstrap, f"{topic}-alerts").publish(records, topic, None)
        return topic

    def rate(self, topic: str, records: int, folder: Path | None = None, **settings: object) -> tuple[float, float]:
        """Records per second of the daemon, and the share of them that it flagged."""
        rates = []
        for _ in range(self.repetitions):
            with Daemon(folder or self.world.folder, settings_of(self.world, topic, **settings)) as daemon:
                daemon.wait_until_ready()
                rates.append(backlog_rate(daemon, records))
                flagged = daemon.metrics()["ganwatch_records_flagged_total"]
        return statistics.median(rates), flagged / records

    def bare(self, topic: str, records: int) -> float:
        """Records per second of a loop that only polls."""
        return statistics.median(bare_poll(self.world.kafka, topic, records) for _ in range(self.repetitions))


def scale_replicas(world: World, broker_pid: int, records: Sequence[bytes], repetitions: int) -> list[Panel]:
    """Rate of all replicas together, and what the broker takes."""
    rates = Panel("records_per_s_replicas", f"Replicas, {PARTITIONS} partitions", "replicas")
    cores = Panel("broker_cores_replicas", "The broker meanwhile", "replicas", "cores in use")
    parts = [records[first::PARTITIONS] for first in range(PARTITIONS)]
    for n_replicas in REPLICAS:
        together = [
            replicas_rate(
                world.folder,
                world.kafka,
                broker_pid,
                parts=parts,
                cores=[os.sched_getaffinity(0)] * n_replicas,
                settings=settings_of(world, "replicas"),
            )
            for _ in range(repetitions)
        ]
        rates.add(OURS, n_replicas, statistics.median(one.records_per_s for one in together))
        cores.add(OURS, n_replicas, statistics.median(one.broker_cores for one in together))
    return [rates, cores]


def scale_features(backlogs: Backlogs) -> Panel:
    """Rate against the number of numeric features."""
    panel = Panel("records_per_s_features", "Features", "numeric features")
    for n_features in FEATURES:
        folder = backlogs.world.folder / f"features-{n_features}"
        frame = simulate(4000, n_features)
        train_quickly(frame, folder)
        records = repeat([msgspec.json.encode(row) for row in frame.to_dicts()])
        topic = backlogs.publish(records)
        panel.add(OURS, n_features, backlogs.rate(topic, len(records), folder)[0])
        panel.add(BARE, n_features, backlogs.bare(topic, len(records)))
    return panel


def scale_batches(backlogs: Backlogs, topic: str) -> Panel:
    """Rate against the size of a full micro-batch."""
    panel = Panel("records_per_s_max_rows", "Micro-batches", "max_rows, records in a full micro-batch")
    for max_rows in MAX_ROWS:
        panel.add(OURS, max_rows, backlogs.rate(topic, MOST_RECORDS, max_rows=max_rows)[0])
    return panel


def scale_record_size(backlogs: Backlogs, records: Sequence[bytes]) -> Panel:
    """Rate against the bytes of a record, most of which are a field that the schema does not name."""
    panel = Panel("records_per_s_bytes", "Record size", "bytes of JSON in a record")
    for padding in PADDINGS:
        padded = repeat([pad(record, padding) for record in records[:2000]])
        topic = backlogs.publish(padded)
        size = statistics.mean(map(len, padded))
        panel.add(OURS, size, backlogs.rate(topic, len(padded))[0])
        panel.add(BARE, size, backlogs.bare(topic, len(padded)))
    return panel


def scale_alerts(backlogs: Backlogs, topic: str) -> Panel:
    """Rate against the share of records that are flagged, explained and published."""
    panel = Panel("records_per_s_alert_percent", "Alerts", "flagged records, %")
    for target in ALERT_RATES:
        rate, share = backlogs.rate(topic, MOST_RECORDS, target_alert_rate=target)
        panel.add(OURS, 100 * share, rate)
    return panel


def repeat(records: Sequence[bytes]) -> list[bytes]:
    """The same records over and over, as many as a backlog may have."""
    size = statistics.mean(map(len, records))
    count = min(MOST_RECORDS, int(MOST_BYTES / size))
    return [records[number % len(records)] for number in range(count)]


def pad(record: bytes, size: int) -> bytes:
    """A record with a field of random letters behind its own."""
    text = json.dumps(secrets.token_urlsafe(size)[:size]).encode()
    return record[:-1] + b',"remark":' + text + b"}" if size else record


def simulate(n_rows: int, n_features: int) -> pl.DataFrame:
    """Rows float64 whose features follow a few causes, rounded as a program would write them."""
    rng = np.random.default_rng(0)
    causes = rng.standard_normal((n_rows, 5)) @ rng.standard_normal((5, n_features))
    X = np.round(causes + 0.1 * rng.standard_normal((n_rows, n_features)), 4)
    return pl.DataFrame(X, schema=[f"sensor_{number}" for number in range(n_features)])


def train_quickly(frame: pl.DataFrame, folder: Path) -> None:
    """A champion whose networks have the size that the preset gives them."""
    folder.mkdir()
    features = [{"name": name, "kind": "numeric"} for name in frame.columns]
    schema = Schema.from_mapping({"name": "simulated", "features": features}, "benchmark")
    write_schema(schema, folder / "features.toml")
    history = History(frame=frame, source="simulated", times=None)
    train_model(history, schema, Registry(str(folder / "registry")), TrainingPlan(options={"steps": 50}))


if __name__ == "__main__":
    sys.exit(main())
