"""Where the daemon's CPU goes: `make bench-cpu`.

The real daemon works off KDD99 records, one in a hundred of them flagged, from a real Kafka, with the bundle that `ganwatch
train` makes there. It runs in three ways that take turns; medians: as it is; with one judge; with one judge and its stages
measured (`stage_cpu`). The last two differ by what the measuring costs. A stage's share is of the whole process's CPU time, and
what no stage explains is the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.goals import Goals, report
from tests.benchmarks.kdd99_stream import World, champion, create, data_folder, draw, prepare, say
from tests.benchmarks.live_alerts import LiveAlerts
from tests.benchmarks.stage_cpu import STAGES
from tests.benchmarks.throughput import settings_of
from tests.conftest import Kafka
from tests.kafka_broker import KafkaBroker

RECORDS = 300_000
GOALS: Goals = {"cpu_explained": lambda value: value >= 0.95, "cpu_drift_share": lambda value: value <= 0.02}


def main() -> int:
    """Runs everything, prints the figures; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each way")
    arguments = parser.parse_args()
    data = data_folder(parser)
    with (
        tempfile.TemporaryDirectory(prefix="ganwatch-cpu-") as name,
        KafkaBroker(Path(name) / "kafka") as broker,
    ):
        world = prepare(Path(name), Kafka(broker.bootstrap), data)
        return report(run(world, arguments.repetitions), GOALS)


def run(world: World, repetitions: int) -> dict[str, Any]:
    """Publishes and measures."""
    for topic in ("one", "one-alerts", "dead-letters"):
        create(world.kafka, topic)
    say(f"publishing {RECORDS} records")
    LiveAlerts(world.kafka.bootstrap, "one-alerts").publish(draw(world, RECORDS, 0.0), "one", None)
    as_it_is, one_judge, measured = [], [], []
    for _ in range(repetitions):
        as_it_is.append(account(world, "plain"))
        one_judge.append(account(world, "plain", judge_threads=1))
        measured.append(account(world, "spans", judge_threads=1))
    stages = {stage: statistics.median(one["stages_us"].get(stage, 0.0) for one in measured) for stage in STAGES}
    total, explained = (statistics.median(one[key] for one in measured) for key in ("us", "explained"))
    stages["rest"] = statistics.median(one["us"] * (1 - one["explained"]) for one in measured)
    print_table(stages, total)
    figures: dict[str, Any] = {
        "cpu_us": round(_median_us(as_it_is), 3),
        "cpu_one_judge_us": round(_median_us(one_judge), 3),
        "cpu_measured_us": round(total, 3),
        "measuring_overhead": round(total / _median_us(one_judge) - 1, 3),
        "cpu_explained": round(explained, 3),
        "cpu_drift_share": round(stages["watch for drift"] / total, 4),
    }
    figures |= {f"cpu_{stage.replace(',', '').replace(' ', '_')}_us": round(us, 3) for stage, us in stages.items()}
    return figures | {"bundle_sha256": champion(world.folder).sha256}


def account(world: World, how: str, **settings: object) -> dict[str, Any]:
    """One life of the daemon: microseconds of CPU a record, by stage and in all, and the share that the stages explain."""
    own = {"registry": world.folder / "registry", "schema_path": world.folder / "features.toml", "http_port": 0}
    flags = [
        part
        for key, value in settings_of(world, "one", **own, **settings).items()
        for part in ("--set", f"{key}={value}")
    ]
    command = [sys.executable, "-m", "tests.benchmarks.stage_cpu", str(RECORDS), how, *flags]
    ours = ("GANWATCH_", "POLARS_MAX_THREADS")  # the daemon chooses its native threads by itself
    environ = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environ).stdout
    found = json.loads(output.splitlines()[-1])
    us = 1e6 / found["records"]
    say(f"{how} {settings}: {found['total_s'] * us:.2f} µs of CPU a record")
    return {
        "us": found["total_s"] * us,
        "stages_us": {stage: seconds * us for stage, seconds in found["stages_s"].items()},
        "explained": sum(found["stages_s"].values()) / found["total_s"],
    }


def _median_us(accounts: Sequence[dict[str, Any]]) -> float:
    return float(statistics.median(one["us"] for one in accounts))


def print_table(stages: dict[str, float], total: float) -> None:
    """Microseconds and shares as Markdown."""
    print("\n| stage | µs of CPU a record | share |\n|---|---|---|")
    for stage, us in stages.items():
        print(f"| {stage} | {us:.2f} | {us / total:.1%} |")
    print(f"| all | {total:.2f} | |\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
