"""The daemon against a loop that only polls, and against what else one would use: `make bench-throughput`.

All on the same records of one topic, one in a hundred of them flagged, with the bundle that `ganwatch train` makes on KDD99;
taking turns, medians compared. Quix Streams and Bytewax get our decoder, transform and LiteRT scorer in their own batching
forms and write alerts without explanations; they run in the environment that RIVALS_PYTHON names. The hand-written loop is
what one would start with: `poll(max_records=500)`, `json.loads`, three `keras.predict` calls a poll, a send an alert, a
commit a poll; its networks have the same shape and random weights. The same records packed as float32 lie in a topic of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monitor.model.schema import Schema
from tests.benchmarks.encodings import pack, packed_schema
from tests.benchmarks.goals import Goals, report
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
from tests.benchmarks.replicas import replicas_rate
from tests.conftest import Kafka
from tests.daemon import Daemon
from tests.kafka_broker import KafkaBroker

# Seconds of work for the fastest: its last micro-batch waits for more records, which is 5 % of a backlog of 300,000.
RECORDS = 1_000_000
SLOW_RECORDS = 15_000
TARGET_ALERT_RATE = 0.01
IDLE_RATE, LIVE_S = 20, 10
HELP_RUNS = 5
GOALS: Goals = {
    "ratio_bare_poll": lambda value: value >= 0.85,
    "ratio_hand_written": lambda value: value >= 20,
    "ratio_quix": lambda value: value >= 3,
    "ratio_bytewax": lambda value: value >= 2,
    "ratio_float32_to_json_poll": lambda value: value >= 1.0,
    "ratio_two_replicas": lambda value: value >= 1.5,
    "p99_half_rate_s": lambda value: value <= 0.25,
    "p99_idle_s": lambda value: value <= 0.1,
    "rss_mb": lambda value: value <= 250,
    "ready_s": lambda value: value <= 2.5,
    "help_s": lambda value: value <= 0.5,
}


@dataclass
class Measured:
    """What the runs gave, one entry a repetition.

    Attributes:
        rates: records per second by contender.
        rss_mb: peaks of the daemon.
        ready_s: seconds from its start to readiness.
        alert_share: of the records.
    """

    rates: dict[str, list[float]] = field(default_factory=dict)
    rss_mb: list[float] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)
    alert_share: float = 0.0

    def add(self, contender: str, rate: float) -> None:
        """Notes and prints one run."""
        self.rates.setdefault(contender, []).append(rate)
        say(f"{contender:17s} {rate:10,.0f} records/s")

    def median(self, contender: str) -> float:
        """Records per second."""
        return statistics.median(self.rates[contender])


def main() -> int:
    """Runs everything; 0 when every goal is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5, help="runs of each contender")
    arguments = parser.parse_args()
    data = data_folder(parser, "RIVALS_PYTHON")
    with (
        tempfile.TemporaryDirectory(prefix="ganwatch-throughput-") as name,
        KafkaBroker(Path(name) / "kafka") as broker,
    ):
        world = prepare(Path(name), Kafka(broker.bootstrap), data)
        figures = run(world, arguments.repetitions, broker.pid)
    return report(figures, GOALS)


def run(world: World, repetitions: int, broker_pid: int) -> dict[str, Any]:
    """Publishes, lets the contenders take turns, then measures latency and replicas."""
    publish(world)
    bundle = champion(world.folder)
    contenders: Mapping[str, Callable[[], float]] = {
        "bare poll": lambda: bare_poll(world.kafka, "one", RECORDS),
        "ganwatch": lambda: daemon_rate(world, measured),
        "bare poll float32": lambda: bare_poll(world.kafka, "packed", RECORDS),
        "ganwatch float32": lambda: daemon_rate(world, measured, "packed", schema_path="packed.toml"),
        "quix streams": lambda: rival_rate(world, "quix_streams", RECORDS, str(bundle.path)),
        "bytewax": lambda: rival_rate(world, "bytewax_flow", RECORDS, str(bundle.path)),
        "hand-written": lambda: rival_rate(world, "hand_written", SLOW_RECORDS, str(bundle.path)),
    }
    measured = Measured()
    for _ in range(repetitions):
        for contender, rate in contenders.items():
            measured.add(contender, rate())
    print_table(measured)
    ours, packed = measured.median("ganwatch"), measured.median("ganwatch float32")
    return {
        "ratio_bare_poll": round(ours / measured.median("bare poll"), 3),
        "ratio_hand_written": round(ours / measured.median("hand-written"), 1),
        "ratio_quix": round(ours / measured.median("quix streams"), 2),
        "ratio_bytewax": round(ours / measured.median("bytewax"), 2),
        "ratio_float32_to_json_poll": round(packed / measured.median("bare poll"), 2),
        "ratio_float32_to_its_poll": round(packed / measured.median("bare poll float32"), 2),
        "ratio_two_replicas": round(two_replicas(world, broker_pid), 2),
        "p99_half_rate_s": round(latency(world, ours / 2), 4),
        "p99_idle_s": round(latency(world, IDLE_RATE), 4),
        "rss_mb": round(max(measured.rss_mb), 1),
        "ready_s": round(statistics.median(measured.ready_s), 2),
        "help_s": round(help_seconds(), 2),
        "alert_share": round(measured.alert_share, 4),
        "records_per_s": round(ours),
        "bare_poll_records_per_s": round(measured.median("bare poll")),
        "bundle_sha256": bundle.sha256,
    }


def publish(world: World) -> None:
    """One topic for all contenders and one of packed records."""
    for topic in ("one", "packed"):
        create(world.kafka, topic)
        create(world.kafka, f"{topic}-alerts")
    create(world.kafka, "dead-letters")
    records = draw(world, RECORDS, 0.0)  # normal ones: one in a hundred of them is flagged
    say(f"publishing {2 * RECORDS} records")
    for topic, values in (("one", records), ("packed", pack_topic(world, records))):
        LiveAlerts(world.kafka.bootstrap, f"{topic}-alerts").publish(values, topic, None)


def pack_topic(world: World, records: list[bytes]) -> list[bytes]:
    """The records as packed float32; packed.toml says so to the daemon."""
    schema = packed_schema(records, Schema.load(world.folder / "features.toml"))
    write_schema(schema, world.folder / "packed.toml")
    codes = "\n".join(f"{name} = {json.dumps(values)}" for name, values in schema.encoding.codes.items())
    with (world.folder / "packed.toml").open("a") as file:
        file.write(f'[encoding]\nformat = "float32"\n[encoding.codes]\n{codes}\n')
    return pack(records, schema)


def settings_of(world: World, topic: str, **more: object) -> dict[str, object]:
    """Of a daemon on one of the topics, in a group of its own."""
    return {
        "bootstrap_servers": world.kafka.bootstrap,
        "target_alert_rate": TARGET_ALERT_RATE,
        "features_topic": topic,
        "alerts_topic": f"{topic}-alerts",
        "group_id": uuid.uuid4().hex,
        "log_format": "json",
    } | more


def daemon_rate(world: World, measured: Measured, topic: str = "one", **settings: object) -> float:
    """One life of the daemon on the backlog."""
    with Daemon(world.folder, settings_of(world, topic, **settings)) as daemon:
        measured.ready_s.append(daemon.wait_until_ready())
        rate = backlog_rate(daemon, RECORDS)
        time.sleep(1.0)
        measured.alert_share = daemon.metrics()["ganwatch_records_flagged_total"] / RECORDS
        measured.rss_mb.append(daemon.resident_mb(peak=True))
    return rate


def rival_rate(world: World, module: str, records: int, bundle: str) -> float:
    """One run of a rival; the hand-written loop needs TensorFlow and runs where we do."""
    python = sys.executable if module == "hand_written" else os.environ["RIVALS_PYTHON"]
    command = [python, "-m", f"tests.benchmarks.rivals.{module}"]
    arguments = [world.kafka.bootstrap, "one", str(records), bundle, str(TARGET_ALERT_RATE)]
    output = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True).stdout
    return float(json.loads(output.splitlines()[-1])["records_per_s"])


def print_table(measured: Measured) -> None:
    """Medians and ratios as Markdown."""
    bare = measured.median("bare poll")
    print("\n| contender | records/s | of the bare poll | ganwatch is faster by |\n|---|---|---|---|")
    for contender in measured.rates:
        rate = measured.median(contender)
        print(f"| {contender} | {rate:,.0f} | {rate / bare:.3f} | {measured.median('ganwatch') / rate:.2f} |")
    print(flush=True)


def latency(world: World, rate: float) -> float:
    """p99 of the seconds from a record's Kafka timestamp to its alert in a consumer's hands, at a steady rate."""
    topic = f"live-{uuid.uuid4().hex[:6]}"
    create(world.kafka, topic)
    create(world.kafka, f"{topic}-alerts")
    share = 0.5 if rate == IDLE_RATE else 0.0  # at the idle rate there would be no alert in ten seconds
    records = draw(world, int(rate * LIVE_S), share)
    with (
        Daemon(world.folder, settings_of(world, topic)) as daemon,
        LiveAlerts(world.kafka.bootstrap, f"{topic}-alerts") as live,
    ):
        daemon.wait_until_ready()
        live.publish(records, topic, rate)
        daemon.wait_until_done(len(records))
        time.sleep(1.0)
    return live.latency_quantile(0.99)


def two_replicas(world: World, broker_pid: int) -> float:
    """Rate of two replicas, each on a core of its own, over that of one on one core."""
    records = draw(world, RECORDS, 0.0)
    rates = []
    for cores in ([{0}], [{0}, {1}]):
        together = replicas_rate(
            world.folder,
            world.kafka,
            broker_pid,
            parts=(records[::2], records[1::2]),
            cores=cores,
            settings=settings_of(world, "two"),
        )
        rates.append(together.records_per_s)
        say(
            f"{len(cores)} replicas on a core each: {together.records_per_s:,.0f} records/s, "
            f"the broker took {together.broker_cores:.2f} of a core"
        )
    return rates[1] / rates[0]


def help_seconds() -> float:
    """Median seconds of `ganwatch --help`."""
    command, times = [sys.executable, "-m", "monitor.cli", "--help"], []
    for _ in range(HELP_RUNS):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
