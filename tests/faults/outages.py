"""Rows 4 and 5: the broker goes away, for a minute in mid-batch, and at the worst moment of a transaction."""

from __future__ import annotations

import random
import signal
import time

from tests.broker.conftest import Stream
from tests.daemon import Daemon, done_records
from tests.faults.oracle import compare
from tests.faults.outcome import Delivered, Outcome
from tests.faults.stage import Stage, seconds_until, wait_until_committed, wait_until_under_way, waits_for
from tests.machines import as_json, readings
from tests.topics import publish

LONGEST_RESUME_S = 15.0
BUSY = 0.2
LONGEST_SILENCE_S = 30.0


def publish_mixed(stream: Stream, records: int, seed: int) -> None:
    """Publishes records with two anomalies in a hundred, all over the stream."""
    values = as_json(readings(records, seed=3000 + seed, anomalies=records // 50))
    random.Random(seed).shuffle(values)  # noqa: S311 - an order for a test
    publish(stream.kafka.bootstrap, stream.features, values)


def broker_down(stage: Stage, seed: int, *, down_s: float = 60.0, records: int = 100_000) -> Outcome:
    """Row 4. T: from the broker's first answer to the first record that is done again."""
    stream = stage.stream()
    publish_mixed(stream, records, seed)
    with stream.daemon(max_rows=50) as daemon:
        wait_until_under_way(daemon, 500)
        stage.broker.stop(signal.SIGKILL)
        daemon.wait_until(lambda: waits_for(daemon, "broker"), "waiting for the broker", 20)
        before, busy = _watch_outage(daemon, down_s)
        stage.broker.start()
        resumed_s = seconds_until(
            daemon, lambda: done_records(daemon.metrics()) > done_records(before), "under way again"
        )
        wait_until_committed(daemon, stream, records)
        code, _ = daemon.stop()
    delivered = compare(stream, stage.bundle)
    return Outcome(
        demands=delivered.at_least_once
        | {
            "the outage is in mid-stream": done_records(before) < records,
            "no crash": code == 0,
            f"less than {BUSY:.0%} of a core meanwhile": busy < BUSY,
            f"it goes on within {LONGEST_RESUME_S:g} s": resumed_s <= LONGEST_RESUME_S,
        },
        delivered=delivered,
        recover_s=resumed_s,
        figures={"outage_s": down_s, "outage_cpu": round(busy, 4)},
        notes=f"{busy:.1%} of a core during {down_s:g} s",
    )


def _watch_outage(daemon: Daemon, down_s: float) -> tuple[dict[str, float], float]:
    """The last scrape of the outage, and the share of a core that was used; `/healthz` stays green."""
    before, started = daemon.metrics(), time.monotonic()
    while time.monotonic() < started + down_s:
        assert daemon.get("/healthz")[0] == 200
        assert daemon.get("/readyz")[0] == 503
        time.sleep(1.0)
    after = daemon.metrics()
    cpu_s = after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]
    return after, cpu_s / (time.monotonic() - started)


def broker_dead_during_commit(stage: Stage, seed: int, *, records: int = 5000) -> Outcome:
    """Row 5. The daemon stops at the door of `commit_transaction` until the broker is killed, or frozen. T: until it gives up."""
    found = {how: _commit_without_broker(stage, seed, records, how) for how in ("killed", "frozen")}
    demands: dict[str, bool] = {}
    for how, (delivered, gave_up_s) in found.items():
        demands |= {f"broker {how}: {demand}": held for demand, held in delivered.exactly_once.items()}
        demands[f"broker {how}: noticed within {LONGEST_SILENCE_S:g} s"] = gave_up_s <= LONGEST_SILENCE_S
    killed, frozen = found["killed"], found["frozen"]
    return Outcome(
        demands=demands,
        delivered=killed[0] + frozen[0],
        recover_s=max(killed[1], frozen[1]),
        notes=f"T is until the watchdog fires: {killed[1]:.1f} s with a killed broker, {frozen[1]:.1f} s with a frozen one",
    )


def _commit_without_broker(stage: Stage, seed: int, records: int, how: str) -> tuple[Delivered, float]:
    stream = stage.stream()
    publish_mixed(stream, records, seed)
    cues = {name: stage.folder / name for name in ("armed", "committing", "go")}
    for cue in cues.values():
        cue.unlink(missing_ok=True)
    settings = stream.settings(
        delivery="exactly_once", group_instance_id="one", max_rows=100, session_timeout_s=40, broker_timeout_s=2
    )
    with Daemon(stage.folder, settings, stage.hooked("announced_commit")) as daemon:
        wait_until_under_way(daemon, 300)
        cues["armed"].touch()
        daemon.wait_until(cues["committing"].exists, "about to commit", 20, pause_s=0.005)
        stage.broker.stop(signal.SIGKILL) if how == "killed" else stage.broker.freeze()
        failed_before = daemon.output().count("transaction_failed")
        cues["go"].touch()
        gave_up_s = seconds_until(
            daemon, lambda: daemon.output().count("transaction_failed") > failed_before, "tired of waiting"
        )
        stage.broker.revive()
        wait_until_committed(daemon, stream, records)
        assert daemon.stop()[0] == 0
    return compare(stream, stage.bundle), gave_up_s
