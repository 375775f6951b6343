"""Row 18: somebody sets the wall clock, and records come from the future and from the past."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.broker.conftest import Stream
from tests.daemon import Daemon, done_records
from tests.faults.oracle import compare
from tests.faults.outcome import Outcome
from tests.faults.stage import Stage, seconds_until, wait_until_committed
from tests.machines import as_json, readings

HOUR_S = 3600
JUMPS = (0, HOUR_S, 0, -HOUR_S, 0)
LAG = "ganwatch_lag_"
# Longer than the daemon's pause between two looks at its lag.
LOOK_S = 6.0


def clock_jumps(stage: Stage, seed: int, *, records: int = 1000, jumps: Sequence[int] = JUMPS) -> Outcome:
    """Row 18. The daemon's clock jumps an hour forwards, back, and an hour backwards; T: the longest wait for records after a jump.

    The clock is the one that Python reads, wrapped in the daemon's process: setting this machine's would hit everything else on it.
    """
    stream = stage.stream()
    values = as_json(readings(2 * len(jumps) * records, seed=10_000 + seed, anomalies=records // 2))[::-1]
    clock = stage.folder / "clock"
    least, slowest_s = 0.0, 0.0
    with Daemon(stage.folder, stream.settings(), stage.hooked("shifted_clock")) as daemon:
        daemon.wait_until_ready()
        for turn, jump in enumerate(jumps):
            clock.write_text(str(jump))
            for part, behind_s in enumerate((-2 * HOUR_S, 2 * HOUR_S)):  # from the past, then from the future
                first = (2 * turn + part) * records
                _publish_at(stream, values[first : first + records], time.time() + behind_s)
                done = first + records
                slowest_s = max(
                    slowest_s,
                    seconds_until(daemon, lambda done=done: done_records(daemon.metrics()) >= done, "done", 30),
                )
            least = min(least, _least_lag(daemon))
        wait_until_committed(daemon, stream, len(values))
        healthy = daemon.get("/healthz")[0] == 200
        code, stop_s = daemon.stop()
    delivered = compare(stream, stage.bundle)
    return Outcome(
        demands=delivered.exactly_once
        | {
            "lag is never negative": least >= 0,
            "no timer hangs": healthy and slowest_s < 5,
            "it stops in order, within 10 s": code == 0 and stop_s < 10,
        },
        delivered=delivered,
        recover_s=slowest_s,
        notes="± 1 h on the clock that the daemon reads, records from 2 h ago and in 2 h",
    )


def _least_lag(daemon: Daemon) -> float:
    """The least value of any lag while the daemon looks at it at least once."""
    until, least = time.monotonic() + LOOK_S, 0.0
    while time.monotonic() < until:
        metrics = daemon.metrics()
        least = min([least, *(value for series, value in metrics.items() if series.startswith(LAG))])
        time.sleep(0.2)
    return least


def _publish_at(stream: Stream, values: list[bytes], moment_s: float) -> None:
    """Publishes with one timestamp, wall seconds."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=stream.kafka.bootstrap, linger_ms=5)
    for value in values:
        producer.send(stream.features, value=value, partition=0, timestamp_ms=int(1000 * moment_s))
    producer.flush(timeout=30)
    producer.close()
