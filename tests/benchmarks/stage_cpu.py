"""`ganwatch run` that keeps account of its CPU: `python -m tests.benchmarks.stage_cpu RECORDS spans|plain FLAG …`.

With `spans` the functions of `STAGES` are wrapped: a stage's CPU is that of its thread between call and return, without that of
the stages called within. What runs in a judge's thread also gets the CPU of the native threads meanwhile, which decode for it;
so there has to be one judge only. The threads of the Kafka clients belong to a stage as a whole. It counts from the start of
the loop to the acknowledgement of the last record; then the daemon is stopped, and one JSON object is the last line.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # as the daemon does

from monitor import cli
from monitor.model import detection
from monitor.model.calibration import Calibration
from monitor.model.decode import Decoder
from monitor.model.preprocess import Preprocessor
from monitor.model.scorer import Scorer
from monitor.stream import pipeline
from monitor.stream.admission import Admission
from monitor.stream.batches import MicroBatch
from monitor.stream.pipeline import Pipeline
from monitor.stream.records import Records
from monitor.stream.service import Service
from monitor.stream.sink import Delivery, Sink
from monitor.stream.source import Source
from monitor.stream.worker import Worker
from monitor.succession.drift_report import DriftReport

STAGES: Mapping[str, tuple[tuple[Any, str], ...]] = {
    "poll, fetch, checksum": ((Source, "poll"),),
    "decompress, find records": ((MicroBatch, "read"),),
    "decode": ((Decoder, "decode"),),
    "transform": ((Preprocessor, "transform"),),
    "score": ((Scorer, "score"),),
    "calibrate, decide": (
        (Calibration, "p_values"), (detection, "score_of"), (pipeline, "_tie_breakers"), (Pipeline, "_decide"),
    ),
    "explain, write alerts": ((Records, "__getitem__"), (Pipeline, "_alerts")),
    "rest of the judging": ((Pipeline, "judge"),),
    "watch for drift": ((Pipeline, "_inputs"), (DriftReport, "observe")),
    "other checks": ((Admission, "__call__"),),
    "produce": ((Delivery, "__init__"), (Delivery, "complete"), (Worker, "turn")),
    "commit": ((Source, "settle"), (Source, "commit")),
    "metrics": ((Service, "_count"), (Service, "_report")),
    "the loop itself": ((Service, "_turn"),),
}  # fmt: skip
# Whoever calls these starts a Kafka client; its I/O thread works for the stage.
CLIENTS = {"poll, fetch, checksum": (Source, "__init__"), "produce": (Sink, "__init__")}
JUDGE = "ganwatch-judge"


class StageClock:
    """CPU seconds by stage.

    Attributes:
        seconds: so far; in a stage that is under way nothing yet.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._nested = threading.local()
        self._clients: dict[int, str] = {}
        self._native: list[int] = []
        self._before: dict[int, float] = {}

    def wrap(self, owner: Any, name: str, stage: str) -> None:
        """Has the calls of a function counted."""
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def timed(*args: Any, **named: Any) -> Any:
            outer, self._nested.seconds = getattr(self._nested, "seconds", 0.0), 0.0
            started = self._now()
            try:
                return inner(*args, **named)
            finally:
                spent = self._now() - started
                self.seconds[stage] += spent - self._nested.seconds
                self._nested.seconds = outer + spent

        setattr(owner, name, timed)

    def adopt(self, owner: Any, name: str, stage: str) -> None:
        """Has the threads that a function starts counted."""
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def starting(*args: Any, **named: Any) -> Any:
            before = python_threads()
            result = inner(*args, **named)
            self._clients |= dict.fromkeys(python_threads() - before, stage)
            return result

        setattr(owner, name, starting)

    def start(self) -> None:
        """Forgets what was counted, and counts from now on."""
        self._native = [thread for thread in all_threads() if thread not in python_threads()]
        self._before = {thread: cpu_of(thread) for thread in self._clients}
        self.seconds.clear()

    def read(self) -> dict[str, float]:
        """CPU seconds by stage since `start`."""
        total = dict(self.seconds)
        for thread, stage in self._clients.items():
            total[stage] = total.get(stage, 0.0) + cpu_of(thread) - self._before[thread]
        return total

    def _now(self) -> float:
        """CPU seconds of this thread and, for a judge, of those that work for it."""
        own = time.thread_time()
        return own + sum(map(cpu_of, self._native)) if threading.current_thread().name.startswith(JUDGE) else own


def python_threads() -> set[int]:
    """The ids of the threads that Python started."""
    return {thread.native_id for thread in threading.enumerate() if thread.native_id}


def all_threads() -> list[int]:
    """The ids of all threads of this process."""
    return [int(path.name) for path in Path("/proc/self/task").iterdir()]


def cpu_of(thread: int) -> float:
    """CPU seconds of a thread of this process, by its id: Linux makes a clock's number of it; see clock_getcpuclockid(3)."""
    with suppress(OSError):  # it has ended
        return time.clock_gettime(~thread << 3 | 6)
    return 0.0


def main(records: int, *, spans: bool) -> None:
    """Runs the daemon until it has acknowledged so many records."""
    clock = StageClock()
    if spans:
        for stage, functions in STAGES.items():
            for owner, name in functions:
                clock.wrap(owner, name, stage)
        for stage, (owner, name) in CLIENTS.items():
            clock.adopt(owner, name, stage)
    result: dict[str, Any] = {}
    _measure_from_start_to_end(clock, records, result)
    with suppress(SystemExit):
        cli.main()
    print(json.dumps(result))


def _measure_from_start_to_end(clock: StageClock, records: int, result: dict[str, Any]) -> None:
    """Starts the account with the loop, and ends it and the daemon with the last record."""
    run, take = Service.run, Service._take_acknowledged
    before = 0.0

    def start(service: Service) -> None:
        nonlocal before
        clock.start()
        before = time.process_time()
        run(service)

    def take_and_look(service: Service) -> None:
        take(service)
        done = service._metrics.scored._value.get()
        if done >= records and not result:
            result.update(total_s=time.process_time() - before, records=done, stages_s=clock.read())
            os.kill(os.getpid(), signal.SIGTERM)

    replace: Callable[[str, Any], None] = functools.partial(setattr, Service)
    replace("run", start)
    replace("_take_acknowledged", take_and_look)


if __name__ == "__main__":
    n_records, how, *flags = sys.argv[1:]
    sys.argv = ["ganwatch", "run", *flags]
    main(int(n_records), spans=how == "spans")
