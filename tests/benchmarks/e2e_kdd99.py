"""KDD99 through a real Kafka and the real daemon: `make e2e-kdd99`.

EfficientGAN `default` learns from the inliers of one half (`ganwatch train`), all rows of the other half are published as
JSON. A first part is published at a steady rate while the daemon watches: that gives the latency. The rest is published
while the daemon is down; after its restart the backlog gives the rate. At the end the alerts are compared with an offline
run (`ganwatch score`), record for record.

One record in five of that half is an anomaly, and an alert costs the client library as much as several records. So the rate
against the bare polling loop is measured on a second topic too, as quiet as a real one: one anomaly in a hundred.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import polars as pl

from tests.benchmarks.goals import Goals, report
from tests.benchmarks.kdd99_stream import World, create, draw, ganwatch, prepare, say, work_off
from tests.benchmarks.live_alerts import LiveAlerts
from tests.conftest import Kafka
from tests.daemon import Daemon
from tests.kafka_broker import KafkaBroker
from tests.topics import read_alerts, read_all

TARGET_ALERT_RATE = 0.01
LIVE_RECORDS = 50_000
LIVE_RATE = 10_000
QUIET_RECORDS = 300_000
QUIET_ANOMALY_SHARE = 0.01
GOALS: Goals = {
    "differing_from_offline": lambda value: value == 0,
    "lost": lambda value: value == 0,
    "duplicates": lambda value: value == 0,
    "precision": lambda value: value >= 0.9,
    "recall": lambda value: value >= 0.9,
    "quiet_rate_ratio": lambda value: value >= 0.5,
    "rss_mb": lambda value: value <= 250,
    "start_s": lambda value: value <= 3,
    "stop_s": lambda value: value <= 10,
}


def main() -> int:
    """Runs everything; returns 0 when every goal is met."""
    data = os.environ.get("GANWATCH_DATA")
    if not data:
        print("GANWATCH_DATA must name the folder of the data sets", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="ganwatch-e2e-") as name, KafkaBroker(Path(name) / "kafka") as broker:
        world = prepare(Path(name), Kafka(broker.bootstrap), Path(data))
        figures = run(world)
    return report(figures, GOALS)


def run(world: World) -> dict[str, float]:
    """Watches the stream in two daemon lives and measures."""
    for topic in ("features", "alerts", "dead-letters"):
        create(world.kafka, topic)
    settings = {
        "bootstrap_servers": world.kafka.bootstrap,
        "target_alert_rate": TARGET_ALERT_RATE,
        "group_instance_id": "e2e",
        "log_format": "json",
    }
    with Daemon(world.folder, settings) as daemon, LiveAlerts(world.kafka.bootstrap, "alerts") as live:
        daemon.wait_until_ready()
        say(f"publishing {LIVE_RECORDS} records at {LIVE_RATE}/s")
        live.publish(world.records[:LIVE_RECORDS], "features", LIVE_RATE)
        daemon.wait_until_done(LIVE_RECORDS)
        latency_s = live.latency_quantile(0.99)
        counted = [daemon.metrics()]
        _, stop_s = daemon.stop()
    say(f"publishing the other {len(world.records) - LIVE_RECORDS} records as a backlog")
    live.publish(world.records[LIVE_RECORDS:], "features", None)
    busy, start_s, metrics = work_off(world, settings, "features", len(world.records) - LIVE_RECORDS)
    counted.append(metrics)
    say(f"publishing {QUIET_RECORDS} records with {QUIET_ANOMALY_SHARE:.0%} anomalies")
    for topic in ("quiet", "quiet-alerts"):
        create(world.kafka, topic)
    live.publish(draw(world, QUIET_RECORDS, QUIET_ANOMALY_SHARE), "quiet", None)
    quiet, _, metrics = work_off(
        world,
        settings | {"features_topic": "quiet", "alerts_topic": "quiet-alerts", "group_id": "quiet"},
        "quiet",
        QUIET_RECORDS,
    )
    return figures(world, counted) | {
        "records_per_s": round(busy.records_per_s),
        "bare_poll_records_per_s": round(busy.bare_records_per_s),
        "rate_ratio": round(busy.ratio, 3),
        "quiet_alert_share": round(metrics["ganwatch_records_flagged_total"] / QUIET_RECORDS, 4),
        "quiet_records_per_s": round(quiet.records_per_s),
        "quiet_bare_poll_records_per_s": round(quiet.bare_records_per_s),
        "quiet_rate_ratio": round(quiet.ratio, 3),
        "p99_latency_s": round(latency_s, 4),
        "rss_mb": round(max(busy.rss_mb, quiet.rss_mb), 1),
        "start_s": round(start_s, 2),
        "stop_s": round(stop_s, 2),
    }


def figures(world: World, counted: list[dict[str, float]]) -> dict[str, float]:
    """Compares what came out with the labels and with an offline run."""
    say("comparing with an offline run")
    ganwatch(
        world.folder,
        "score",
        "other-half.parquet",
        "--target-alert-rate",
        str(TARGET_ALERT_RATE),
        "--out",
        "scores.parquet",
        "--top",
        "0",
    )
    scores = pl.read_parquet(world.folder / "scores.parquet")
    expected = {
        row["offset"]: (row["raw_score"], row["p_value"]) for row in scores.filter("flagged").iter_rows(named=True)
    }
    alerts = read_alerts(world.kafka.bootstrap, "alerts")
    found = {alert["record"]["offset"]: (alert["raw_score"], alert["p_value"]) for alert in alerts}
    differing = sum(found.get(offset) != value for offset, value in expected.items()) + len(
        found.keys() - expected.keys()
    )
    dead = len(read_all(world.kafka.bootstrap, "dead-letters"))
    scored = sum(scrape["ganwatch_records_scored_total"] for scrape in counted)
    consumed = sum(scrape["ganwatch_records_consumed_total"] for scrape in counted)
    flagged = sum(scrape["ganwatch_records_flagged_total"] for scrape in counted)
    hits = sum(world.y[offset] for offset in found)
    if not (consumed == scored + dead == len(world.records) and flagged == len(alerts)):
        raise AssertionError(f"counters do not add up: {consumed=} {scored=} {dead=} {flagged=} alerts={len(alerts)}")
    return {
        "records": len(world.records),
        "alerts": len(found),
        "lost": len(expected.keys() - found.keys()) + int(len(world.records) - scored - dead),
        "duplicates": len(alerts) - len({alert["id"] for alert in alerts}),
        "differing_from_offline": differing,
        "precision": round(hits / len(found), 4),
        "recall": round(hits / world.y.sum(), 4),
    }


if __name__ == "__main__":
    sys.exit(main())
