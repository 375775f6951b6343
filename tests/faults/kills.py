"""Rows 1 and 2: kill -9 of the daemon, again and again, while it lags."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests import machines
from tests.broker.conftest import Stream
from tests.daemon import Daemon
from tests.faults.oracle import compare
from tests.faults.outcome import Outcome
from tests.faults.stage import Stage, next_offsets, wait_until_committed, wait_until_under_way
from tests.topics import last_value, publish

SESSION_S = 6.0
LONGEST_LIFE_S = 0.1
INSTANCE = "killed-again-and-again"
# Small micro-batches, so that the backlog outlasts the kills.
SETTINGS: dict[str, object] = {"group_instance_id": INSTANCE, "session_timeout_s": SESSION_S, "max_rows": 10}


@dataclass(frozen=True)
class Kills:
    """What the kills met.

    Attributes:
        count: kills while there was lag.
        hits: those at the moment that matters.
        recover_s: the longest time from a kill to the first record that was done again.
    """

    count: int
    hits: int
    recover_s: float


def killed_at_least_once(stage: Stage, seed: int, *, kills: int = 100, records: int = 100_000) -> Outcome:
    """Row 1. A kill counts as between send and commit when the alert topic then ends with one of a record that is not committed."""
    stream = stage.stream()
    values = _publish(stream, records, seed)

    def is_between(next_offset: int) -> bool:
        alert = last_value(stream.kafka.bootstrap, stream.alerts)
        return alert is not None and alert["record"]["offset"] >= next_offset

    met = _kill(stream, values, kills, seed, is_between, SETTINGS)
    delivered = compare(stream, stage.bundle)
    return Outcome(
        demands=delivered.at_least_once
        | {
            f"{kills} kills while there was lag": met.count >= kills,
            "one kill in five between send and commit": met.hits >= kills // 5,
            "it goes on within the session time-out and 5 s": met.recover_s <= SESSION_S + 5,
        },
        delivered=delivered,
        recover_s=met.recover_s,
        figures={
            "alo_records": records,
            "alo_kills": met.count,
            "alo_between_send_and_commit": met.hits,
            "alo_alerts_expected": delivered.alerts,
            "alo_lost": delivered.lost,
            "alo_repeated": delivered.repeated,
            "alo_duplicates_by_id": delivered.duplicates,
            "alo_reordered": delivered.reordered,
        },
        notes=f"{met.count} kills, {met.hits} between send and commit, {delivered.alerts} alerts",
    )


def killed_exactly_once(stage: Stage, seed: int, *, kills: int = 100, records: int = 100_000) -> Outcome:
    """Row 2. A kill counts as in a transaction when the broker then lists the daemon's as begun and neither committed nor aborted."""
    stream = stage.stream()
    values = _publish(stream, records, seed)
    settings = SETTINGS | {"delivery": "exactly_once"}
    met = _kill(stream, values, kills, seed, lambda _: has_open_transaction(stream), settings)
    delivered = compare(stream, stage.bundle)
    return Outcome(
        demands=delivered.exactly_once
        | {
            f"{kills} kills while there was lag": met.count >= kills,
            "one kill in five in an open transaction": met.hits >= kills // 5,
            "an alert among a hundred records": delivered.alerts >= records // 100,
        },
        delivered=delivered,
        recover_s=met.recover_s,
        figures={
            "eos_records": records,
            "eos_kills": met.count,
            "eos_in_transaction": met.hits,
            "eos_alerts_expected": delivered.alerts,
            "eos_lost": delivered.lost,
            "eos_duplicates": delivered.repeated + delivered.duplicates,
            "eos_reordered": delivered.reordered,
        },
        notes=f"{met.count} kills, {met.hits} in an open transaction, {delivered.alerts} alerts",
    )


def _publish(stream: Stream, records: int, seed: int) -> int:
    """Anomalies all over the stream; returns how many records there are."""
    values = machines.as_json(machines.readings(records, seed=1000 + seed, anomalies=records // 50))
    random.Random(seed).shuffle(values)  # noqa: S311 - an order for a test
    publish(stream.kafka.bootstrap, stream.features, values)
    return records


def _kill(
    stream: Stream, records: int, kills: int, seed: int, is_hit: Callable[[int], bool], settings: dict[str, object]
) -> Kills:
    """Kills until that was often enough, or the backlog is done; then lets a last daemon finish."""
    rng = random.Random(seed)  # noqa: S311 - moments of a test
    count = hits = 0
    recover_s, killed_at = 0.0, None
    while count < kills:
        daemon = stream.daemon(**settings).start()
        wait_until_under_way(daemon)
        if killed_at is not None:
            recover_s = max(recover_s, time.monotonic() - killed_at)
        time.sleep(rng.uniform(0.0, LONGEST_LIFE_S))
        daemon.kill()
        killed_at = time.monotonic()
        next_offset = next_offsets(stream)
        if next_offset >= records:
            break
        count += 1
        hits += is_hit(next_offset)
    _finish(stream.daemon(**settings | {"max_rows": 1000}), stream, records)
    return Kills(count, hits, recover_s)


def _finish(daemon: Daemon, stream: Stream, records: int) -> None:
    with daemon:
        wait_until_committed(daemon, stream, records)


def has_open_transaction(stream: Stream) -> bool:
    """Whether the broker holds a transaction of this daemon that was begun and neither committed nor aborted."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=stream.kafka.bootstrap)
    try:
        ongoing = admin.list_transactions(state_filters=["Ongoing"])
    finally:
        admin.close()
    own = f"{stream.group}/{INSTANCE}"
    return any(listing.transactional_id == own for listings in ongoing.values() for listing in listings)
