"""Called in a daemon before it begins: what no fault from outside can do at the right moment. Files in its folder give the cue."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any


def slow_judge() -> None:
    """A micro-batch takes the seconds that stand in the file `slow`."""
    from monitor.stream.pipeline import Pipeline

    judge = Pipeline.judge

    def slow(pipeline: Pipeline, batch: Any) -> Any:
        file = Path("slow")
        if file.exists():
            Path("slowed").touch()
            time.sleep(float(file.read_text()))
        return judge(pipeline, batch)

    Pipeline.judge = slow


def announced_commit() -> None:
    """While there is a file `armed`, the next commit of a transaction tells by `committing` that it begins, and waits for `go`."""
    from kafka.producer.transaction_manager import TransactionManager

    begin_commit = TransactionManager.begin_commit

    def announced(manager: Any) -> Any:
        if Path("armed").exists():
            Path("armed").unlink()
            Path("committing").touch()
            while not Path("go").exists():
                time.sleep(0.005)
        return begin_commit(manager)

    TransactionManager.begin_commit = announced


def shifted_clock() -> None:
    """The wall clock is off by the seconds in the file `clock`; the monotonic one is not, as when somebody sets the time."""
    from monitor.stream import pipeline

    now, now_ns = time.time, time.time_ns

    def shift() -> float:
        file = Path("clock")
        return float(file.read_text() or 0) if file.exists() else 0.0

    class Shifted(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            return dt.datetime.now(tz) + dt.timedelta(seconds=shift())

    time.time = lambda: now() + shift()
    time.time_ns = lambda: now_ns() + int(1e9 * shift())
    pipeline.datetime = Shifted
