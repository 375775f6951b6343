"""`ganwatch retrain --every 6h`: retrains by the clock, and when somebody asks for it, but never too often."""

from __future__ import annotations

import logging
import math
import queue
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from apscheduler.schedulers.background import BackgroundScheduler  # type: ignore[import-untyped]
from apscheduler.triggers.interval import IntervalTrigger  # type: ignore[import-untyped]

from monitor.errors import ConfigError, GanwatchError

log = logging.getLogger(__name__)

BY_THE_CLOCK = "schedule"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)(?P<unit>[smhd]?)")


def parse_duration(text: str, where: str) -> float:
    """Seconds of `90`, `90s`, `30m`, `6h` or `2d`.

    Raises:
        ConfigError: it is none of these, or zero.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    seconds = float(match["number"]) * _UNITS[match["unit"] or "s"] if match else 0.0
    if seconds <= 0:
        raise ConfigError(where, f"expected a duration such as 90s, 30m, 6h or 2d, got {text!r}")
    return seconds


@dataclass(frozen=True)
class Schedule:
    """When to retrain.

    Attributes:
        every_s: seconds between two runs.
        jitter_s: each run comes up to this much earlier or later, so that many trainers do not start at once.
        cool_down_s: a wish within this time after a run ended is followed at its end.
    """

    every_s: float
    jitter_s: float = 0.0
    cool_down_s: float = 1800.0


class Resident:
    """Runs one retraining at a time, in the thread that calls `run_forever`."""

    def __init__(
        self, work: Callable[[str], None], schedule: Schedule, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`work` is told why it is called: `schedule`, or the reason of a wish."""
        self._work = work
        self._schedule = schedule
        self._clock = clock
        self._wishes: queue.Queue[str | None] = queue.Queue()
        self._working = False
        self._began_at, self._ended_at = -math.inf, -math.inf
        self._postponed: threading.Timer | None = None

    def wish(self, reason: str) -> None:
        """Asks for a retraining soon, for instance because the data drifted; from any thread."""
        self._wishes.put(reason)

    def stop(self) -> None:
        """Ends `run_forever` after the work in progress; from any thread."""
        self._wishes.put(None)

    def run_forever(self) -> None:
        """Retrains at once and then by the schedule, until `stop`."""
        scheduler = BackgroundScheduler(timezone="UTC")
        trigger = IntervalTrigger(seconds=self._schedule.every_s, jitter=self._schedule.jitter_s or None)
        scheduler.add_job(self._strike, trigger, coalesce=True, misfire_grace_time=None)
        scheduler.start()
        try:
            self._run(BY_THE_CLOCK)
            while (reason := self._wishes.get()) is not None:
                if self._is_due(reason):
                    self._run(reason)
        finally:
            scheduler.shutdown(wait=False)

    def _strike(self) -> None:
        """By the clock; what comes due while a retraining is at work is not made up for."""
        if not self._working:
            self.wish(BY_THE_CLOCK)

    def _is_due(self, reason: str) -> bool:
        """The clock leaves out a run soon after another one began, whatever for; a wish waits for the cool-down after its end."""
        if reason == BY_THE_CLOCK:
            since, least = self._clock() - self._began_at, self._schedule.every_s / 2
        else:
            since, least = self._clock() - self._ended_at, self._schedule.cool_down_s
        if since >= least:
            return True
        log.info("retrain_not_due", extra={"reason": reason, "seconds_since_last": round(since, 1)})
        if reason != BY_THE_CLOCK:
            self._postpone(reason, least - since)
        return False

    def _postpone(self, reason: str, seconds: float) -> None:
        """Wishes again later; of several wishes the first one stands for all."""
        if self._postponed is None or self._postponed.finished.is_set():
            self._postponed = threading.Timer(seconds, self.wish, [reason])
            self._postponed.daemon = True
            self._postponed.start()

    def _run(self, reason: str) -> None:
        if self._postponed is not None:
            self._postponed.cancel()  # this run is what it wished for
        log.info("retrain_begins", extra={"reason": reason})
        self._working, self._began_at = True, self._clock()
        try:
            self._work(reason)
        except GanwatchError as error:  # the next run may find better rows, or a registry that answers
            log.warning("retrain_failed", extra={"error": str(error), "type": type(error).__name__})
        self._working, self._ended_at = False, self._clock()


def stop_on_signals(resident: Resident) -> None:
    """SIGTERM and SIGINT end the process: at once in the midst of a retraining, which harms nothing, else after it."""

    def stop(number: int, _frame: Any) -> None:
        resident.stop()
        raise SystemExit(0 if number == signal.SIGTERM else 130)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
