"""KDD99 as a stream, for benchmarks: a model of one half's inliers, the other half as JSON records, a daemon on a backlog."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import polars as pl

from monitor.champion import load_champion
from monitor.model.bundle import Bundle
from monitor.model.schema import Schema
from monitor.settings import Settings
from tests.conftest import Kafka
from tests.daemon import Daemon, done_records
from training.datasets import KDD99_LABEL, kdd99_schema, load_kdd99, split_kdd99, to_feature_frame

ENVIRONMENT = {"GANWATCH_DATA": "the folder of the data sets", "RIVALS_PYTHON": "the rivals' interpreter"}
# Between scrapes of the metrics while a backlog is worked off.
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


@dataclass(frozen=True)
class World:
    """Everything on disk and in Kafka that a run needs.

    Attributes:
        folder: with features.toml and the registry.
        kafka: the broker.
        records: JSON, in a random order.
        y: bool, whether each is an anomaly.
    """

    folder: Path
    kafka: Kafka
    records: Sequence[bytes]
    y: np.ndarray


def prepare(folder: Path, kafka: Kafka, data: Path) -> World:
    """Trains on one half and encodes the other."""
    rows = train_champion(folder, data)
    write_offline_file(rows, folder / "other-half.parquet")
    return World(folder, kafka, encode(rows), (rows[KDD99_LABEL] == "normal.").to_numpy())


def train_champion(folder: Path, data: Path) -> pd.DataFrame:
    """Has `ganwatch train` make a model of one half's inliers; returns the rows of the other half in a random order."""
    rest = write_training_files(folder, data)
    ganwatch(folder, "train", "--data", "train.parquet")
    return rest


def write_training_files(folder: Path, data: Path) -> pd.DataFrame:
    """A features.toml and the inliers of one half as train.parquet; returns the rows of the other half in a random order."""
    frame = load_kdd99(data)
    split = split_kdd99(frame)
    write_schema(kdd99_schema(), folder / "features.toml")
    to_feature_frame(frame.iloc[split.train], kdd99_schema()).write_parquet(folder / "train.parquet")
    say(f"wrote {len(split.train)} inliers to train on")
    rest = np.setdiff1d(np.arange(len(frame)), np.concatenate([split.train, split.train_anomalies]))
    return frame.iloc[np.random.default_rng(0).permutation(rest)]


def champion(folder: Path) -> Bundle:
    """The model of a folder, as its daemon loads it."""
    return load_champion(Settings(registry=str(folder / "registry"), schema_path=str(folder / "features.toml")))


def write_schema(schema: Schema, path: Path) -> None:
    """A features.toml of a schema."""
    lines = [f'name = "{schema.name}"']
    lines += [f'[[features]]\nname = "{feature.name}"\nkind = "{feature.kind}"' for feature in schema.features]
    path.write_text("\n".join(lines) + "\n")


def encode(rows: pd.DataFrame) -> list[bytes]:
    """Rows as JSON records of the 41 fields."""
    return [msgspec.json.encode(row) for row in rows.drop(columns=KDD99_LABEL).to_dict("records")]


def write_offline_file(rows: pd.DataFrame, path: Path) -> None:
    """The same rows with the places that they will have in Kafka: one partition, in order."""
    frame = to_feature_frame(rows, kdd99_schema())
    places = [pl.lit("features").alias("topic"), pl.lit(0).alias("partition"), pl.int_range(pl.len()).alias("offset")]
    frame.with_columns(places).write_parquet(path)


@dataclass(frozen=True)
class Rate:
    """How fast a backlog was worked off, and how fast a bare loop polls the same topic before and after."""

    records_per_s: float
    bare_records_per_s: float
    rss_mb: float

    @property
    def ratio(self) -> float:
        """Of the bare loop's rate."""
        return self.records_per_s / self.bare_records_per_s


def work_off(
    world: World, settings: Mapping[str, object], topic: str, records: int
) -> tuple[Rate, float, dict[str, float]]:
    """One daemon life on a backlog: its rate, its seconds to readiness, its last scrape."""
    bare = [bare_poll(world.kafka, topic, records)]
    with Daemon(world.folder, settings) as daemon:
        start_s = daemon.wait_until_ready()
        rate = backlog_rate(daemon, records)
        time.sleep(1.0)
        metrics = daemon.metrics()
        rss_mb = daemon.resident_mb(peak=True)
    bare.append(bare_poll(world.kafka, topic, records))
    return Rate(rate, statistics.mean(bare), rss_mb), start_s, metrics


def create(kafka: Kafka, topic: str, partitions: int = 1) -> None:
    """Creates a topic."""
    from kafka import KafkaAdminClient
    from kafka.admin import NewTopic

    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_topics([NewTopic(topic, partitions, 1)], wait_for_metadata=True)
    admin.close()


def backlog_rate(daemon: Daemon, records: int) -> float:
    """Records per second from the first acknowledged batch to the last.

    Each scrape takes milliseconds of CPU from the daemon, so there are few of them until the end is near.
    """
    points: list[tuple[float, float]] = []
    pause_s = _SHORTEST_PAUSE_S
    while not points or points[-1][1] < records:
        time.sleep(pause_s)
        done = done_records(daemon.metrics())
        if done and (not points or done > points[-1][1]):
            points.append((time.perf_counter(), done))
        if len(points) > 1:
            seconds_left = (records - done) / _rate_between(points[0], points[-1])
            pause_s = min(max(seconds_left / 2, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
    return _rate_between(points[0], points[-1])


def _rate_between(first: tuple[float, float], last: tuple[float, float]) -> float:
    """Records per second between two moments, each with the records done by then."""
    return (last[1] - first[1]) / (last[0] - first[0])


def bare_poll(kafka: Kafka, topic: str, records: int) -> float:
    """Records per second of the bare loop over the first records of a topic, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.bare_poll", kafka.bootstrap, topic, str(records)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def draw(world: World, count: int, anomaly_share: float) -> list[bytes]:
    """Records of the stream with another share of anomalies; repeated, since there are not enough normal ones."""
    rng = np.random.default_rng(1)
    anomalous = rng.random(count) < anomaly_share
    rows = np.where(anomalous, rng.choice(np.flatnonzero(world.y), count), rng.choice(np.flatnonzero(~world.y), count))
    return [world.records[row] for row in rows]


def ganwatch(folder: Path, *arguments: str) -> None:
    """Runs the command in a folder; its output is shown."""
    subprocess.run([sys.executable, "-m", "monitor.cli", *arguments], cwd=folder, check=True)


def data_folder(parser: argparse.ArgumentParser, *others: str) -> Path:
    """The folder of the data sets, by the environment; ends with a usage error when it or another variable is not set.

    Args:
        parser: of the command.
        others: what else is needed, keys of `ENVIRONMENT`.
    """
    missing = [name for name in ("GANWATCH_DATA", *others) if not os.environ.get(name)]
    if missing:
        parser.error(f"set {' and '.join(missing)}: {', '.join(ENVIRONMENT[name] for name in missing)}")
    return Path(os.environ["GANWATCH_DATA"])


def say(sentence: str) -> None:
    """Progress of the run."""
    print(sentence, flush=True)
