"""Rows 3 and 8: replicas restart, come and go under load."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tests.broker.conftest import Stream
from tests.daemon import Daemon
from tests.faults.load import Load, under_load
from tests.faults.oracle import compare
from tests.faults.outcome import Delivered, Outcome, summed
from tests.faults.stage import Stage, wait_until_committed

PARTITIONS = 6
PER_S = 1000.0
LONGEST_EXIT_S = 10.0
LONGEST_IDLE_S = 10.0
SETTLED_S = 2.0


def rolling_restarts(stage: Stage, seed: int, *, rounds: int = 10) -> Outcome:
    """Row 3. Three replicas, one restarted after the other by SIGTERM, in rounds; as static and as dynamic members."""
    kinds = {
        kind: _roll(stage, seed, rounds, static=kind == "static members")
        for kind in ("static members", "dynamic members")
    }
    demands: dict[str, bool] = {}
    for kind, (delivered, exit_s, _) in kinds.items():
        demands |= {f"{kind}: {demand}": held for demand, held in delivered.exactly_once.items()}
        demands[f"{kind}: exit within {LONGEST_EXIT_S:g} s"] = exit_s <= LONGEST_EXIT_S
    slowest_s = max(exit_s for _, exit_s, _ in kinds.values())
    return Outcome(
        demands=demands,
        delivered=summed(delivered for delivered, _, _ in kinds.values()),
        recover_s=max(idle_s for _, _, idle_s in kinds.values()),
        figures={"rolling_restarts": 6 * rounds, "rolling_exit_s": round(slowest_s, 2)},
        notes=f"{6 * rounds} restarts, exit ≤ {slowest_s:.1f} s; T is the longest standstill of a partition",
    )


def _roll(stage: Stage, seed: int, rounds: int, *, static: bool) -> tuple[Delivered, float, float]:
    """What was delivered, the slowest exit, the longest standstill."""
    stream = stage.stream(PARTITIONS)

    def start(number: int) -> Daemon:
        name = {"group_instance_id": f"replica-{number}"} if static else {}
        return _started(stream, {"session_timeout_s": 10, **name})

    daemons = [start(number) for number in range(3)]
    time.sleep(SETTLED_S)
    slowest_s = 0.0
    with under_load(stream, PARTITIONS, per_s=PER_S, longest_s=12.0 * rounds + 30, seed=seed) as load:
        for _ in range(rounds):
            for number in range(3):
                slowest_s = max(slowest_s, _stopped(daemons[number]))
                daemons[number] = start(number)
        delivered = _finish(stage, load, daemons)
    return delivered, slowest_s, load.longest_idle_s


def scaling(stage: Stage, seed: int, *, pause_s: float = 3.0) -> Outcome:
    """Row 8. From one replica to four, to two, to three, under load, with either way of rebalancing and either delivery."""
    kinds: Mapping[str, dict[str, object]] = {
        "cooperative": {"rebalance_protocol": "cooperative"},
        "eager": {"rebalance_protocol": "eager"},
        "cooperative, exactly-once": {"delivery": "exactly_once"},
    }
    found = {kind: scale(stage, seed, pause_s, settings) for kind, settings in kinds.items()}
    demands: dict[str, bool] = {}
    for kind, (delivered, idle_s) in found.items():
        promise = delivered.exactly_once if "exactly" in kind else delivered.at_least_once
        demands |= {f"{kind}: {demand}": held for demand, held in promise.items()}
        demands[f"{kind}: no partition stands still for {LONGEST_IDLE_S:g} s"] = idle_s < LONGEST_IDLE_S
    return Outcome(
        demands=demands,
        delivered=summed(delivered for delivered, _ in found.values()),
        recover_s=max(idle_s for _, idle_s in found.values()),
        notes="T is the longest standstill of a partition",
    )


def scale(stage: Stage, seed: int, pause_s: float, settings: Mapping[str, object]) -> tuple[Delivered, float]:
    """What was delivered, and the longest standstill of a partition."""
    stream = stage.stream(PARTITIONS)

    def start(number: int) -> Daemon:
        name = {"group_instance_id": f"replica-{number}"} if "delivery" in settings else {}
        return _started(stream, {"session_timeout_s": 3, **settings, **name})

    with under_load(stream, PARTITIONS, per_s=PER_S, longest_s=120, seed=seed) as load:
        daemons = [start(0)]
        time.sleep(pause_s)
        daemons += [start(number) for number in (1, 2, 3)]
        time.sleep(pause_s)
        for daemon in (daemons.pop(0), daemons.pop(0)):
            _stopped(daemon)
        time.sleep(pause_s)
        daemons.append(start(4))
        time.sleep(pause_s)
        delivered = _finish(stage, load, daemons)
    return delivered, load.longest_idle_s


def _started(stream: Stream, settings: Mapping[str, object]) -> Daemon:
    daemon = stream.daemon(max_rows=200, **settings).start()
    daemon.wait_until_ready()
    return daemon


def _stopped(daemon: Daemon) -> float:
    code, seconds = daemon.stop()
    assert code == 0, daemon.output()
    return seconds


def _finish(stage: Stage, load: Load, daemons: list[Daemon]) -> Delivered:
    """Sends no more, waits until all is committed, ends the daemons, compares."""
    load.ending.set()
    time.sleep(1.0)
    wait_until_committed(daemons[0], load.stream, load.sent, PARTITIONS)
    for daemon in daemons:
        _stopped(daemon)
    return compare(load.stream, stage.bundle)
