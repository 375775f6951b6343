"""Rows 6 and 7: a batch that takes too long, and a replica that sleeps while the group goes on."""

from __future__ import annotations

import signal
import time

from tests.daemon import Daemon
from tests.faults.oracle import compare
from tests.faults.outages import publish_mixed
from tests.faults.outcome import Outcome
from tests.faults.stage import Stage, next_offsets, wait_until_committed, wait_until_under_way

POLL_S = 3.0
SLOW_S = 7.0
SESSION_S = 3.0


def slow_batch(stage: Stage, seed: int, *, records: int = 5000) -> Outcome:
    """Row 6. Judging a batch takes more than twice `max_poll_interval_s`, and more than the session."""
    stream = stage.stream()
    publish_mixed(stream, records, seed)
    settings = stream.settings(max_rows=200, max_poll_interval_s=POLL_S, session_timeout_s=2)
    (stage.folder / "slow").write_text(str(SLOW_S))
    with Daemon(stage.folder, settings, stage.hooked("slow_judge")) as daemon:
        daemon.wait_until((stage.folder / "slowed").exists, "judging a slow batch")
        time.sleep(0.5)  # for the second thread to begin another one
        (stage.folder / "slow").unlink()
        wait_until_committed(daemon, stream, records)
        rebalances = daemon.metrics()["ganwatch_rebalances_total"]
        assert daemon.stop()[0] == 0
    delivered = compare(stream, stage.bundle)
    return Outcome(
        demands=delivered.exactly_once | {"the group keeps its member": rebalances == 1},
        delivered=delivered,
        notes=f"a batch of {SLOW_S:g} s, `max_poll_interval_s` = {POLL_S:g}: no eviction",
    )


def zombie(stage: Stage, seed: int, *, records: int = 20_000) -> Outcome:
    """Row 7. SIGSTOP for twice the session time-out; what the sleeper still holds must not be delivered when it wakes."""
    stream = stage.stream()
    publish_mixed(stream, records, seed)
    settings: dict[str, object] = {"delivery": "exactly_once", "session_timeout_s": SESSION_S, "max_rows": 50}
    sleeper = stream.daemon(**settings, group_instance_id="sleeper").start()
    wait_until_under_way(sleeper, 200)
    sleeper.signal(signal.SIGSTOP)
    slept_at = time.monotonic()
    try:
        with stream.daemon(**settings, group_instance_id="heir") as heir:
            wait_until_under_way(heir)
            taken_over_s = time.monotonic() - slept_at
            time.sleep(max(0.0, slept_at + 2 * SESSION_S - time.monotonic()))
            sleeper.signal(signal.SIGCONT)
            wait_until_committed(heir, stream, records)
            time.sleep(SESSION_S)  # for what the sleeper still holds
            done = next_offsets(stream)
    finally:
        sleeper.signal(signal.SIGCONT)
        code, _ = sleeper.stop()
    delivered = compare(stream, stage.bundle)
    return Outcome(
        demands=delivered.exactly_once
        | {"the sleeper takes nothing back": done == records, "the sleeper ends in order": code == 0},
        delivered=delivered,
        recover_s=taken_over_s,
        notes=f"asleep for {2 * SESSION_S:g} s, session {SESSION_S:g} s; T is until the heir delivers",
    )
