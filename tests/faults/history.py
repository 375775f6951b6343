"""Row 21: history is scored once more beside the live group."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.broker.conftest import Stream
from tests.faults.load import under_load
from tests.faults.oracle import compare
from tests.faults.outages import publish_mixed
from tests.faults.outcome import Outcome
from tests.faults.stage import Stage, next_offsets, wait_until_committed
from tests.terminal import flags_of
from tests.topics import read_alerts

# What an alert says of its record; the rest is when, and on whose behalf, it was said.
SAID = (
    "id",
    "score",
    "p_value",
    "raw_score",
    "threshold",
    "severity",
    "attribution",
    "imputed",
    "model",
    "record",
    "payload",
)


def replayed(stage: Stage, seed: int, *, records: int = 20_000, live_s: float = 5.0) -> Outcome:
    """Row 21. `ganwatch replay` of all there is, while the live group works."""
    stream = stage.stream()
    publish_mixed(stream, records, seed)
    elsewhere = stage.stream().alerts
    with stream.daemon() as daemon:
        wait_until_committed(daemon, stream, records)
        rebalances = daemon.metrics()["ganwatch_rebalances_total"]
        with under_load(stream, 1, per_s=1000, longest_s=live_s + 60, seed=seed) as load:
            summary = _replay(stream, elsewhere)
            load.ending.wait(live_s)
            load.ending.set()
        wait_until_committed(daemon, stream, records + load.sent)
        unmoved = daemon.metrics()["ganwatch_rebalances_total"] == rebalances
        assert daemon.stop()[0] == 0
    delivered = compare(stream, stage.bundle)
    live = {alert["id"]: alert for alert in read_alerts(stream.kafka.bootstrap, stream.alerts)}
    again = {alert["id"]: alert for alert in read_alerts(stream.kafka.bootstrap, elsewhere)}
    covered = {key for key, alert in live.items() if alert["record"]["offset"] < summary["records"]}
    return Outcome(
        demands=delivered.exactly_once
        | {
            "all of history is replayed": summary["records"] >= records,
            "the same alerts": again.keys() == covered,
            "the same words": all(again[key][part] == live[key][part] for key in covered for part in SAID),
            "marked as a replay, the live ones not": all(alert["replay"] for alert in again.values())
            and not any(alert["replay"] for alert in live.values()),
            "live offsets are the live group's own": next_offsets(stream) == records + load.sent and unmoved,
        },
        delivered=delivered,
        figures={"replayed_records": summary["records"], "replayed_alerts": len(again)},
        notes=f"{summary['records']} records, {len(again)} alerts again, live at 1,000/s meanwhile",
    )


def _replay(stream: Stream, alerts_topic: str) -> dict[str, Any]:
    root = Path(__file__).parents[2]
    arguments = ["replay", "--from", "2020-01-01", "--alerts-topic", alerts_topic, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "monitor.cli", *arguments, *flags_of(stream.settings())],
        cwd=stream.folder,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary
