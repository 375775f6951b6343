"""Ends a process whose loop no longer turns, so that its supervisor starts another one.

Waiting with back-off turns the loop; what does not is a call that never returns.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

TICK_S = 1.0
EXIT_CODE = 6


@dataclass
class Watchdog:
    """Measures how long the loop has been silent.

    Attributes:
        turned_at: tells when the loop turned last, in monotonic seconds.
        limit_s: silence that is too long.
    """

    turned_at: Callable[[], float]
    limit_s: float
    silent_s: float = 0.0

    def __post_init__(self) -> None:
        self._seen = self.turned_at()
        self._checked_at: float | None = None

    def is_stuck(self, now: float) -> bool:
        """Looks once; expected about every `TICK_S`.

        A longer pause counts as one tick: then the whole process slept (a debugger, a suspended machine), and the loop gets
        its time.

        Args:
            now: monotonic seconds.
        """
        passed_s = 0.0 if self._checked_at is None else min(now - self._checked_at, 2 * TICK_S)
        self._checked_at = now
        turned_at = self.turned_at()
        self.silent_s = self.silent_s + passed_s if turned_at == self._seen else 0.0
        self._seen = turned_at
        return self.silent_s > self.limit_s

    def start(self) -> None:
        """Looks from now on, in a thread of its own, and ends the process when the loop is stuck."""
        threading.Thread(target=self._watch, name="ganwatch-watchdog", daemon=True).start()

    def _watch(self) -> None:
        while not self.is_stuck(time.monotonic()):
            time.sleep(TICK_S)
        log.critical("loop_stuck", extra={"silent_s": round(self.silent_s)})
        faulthandler.dump_traceback()  # where it is stuck
        print(  # nothing may be waited for any more, not even locks of the logs
            f"ganwatch: the loop has not turned for {self.silent_s:.0f} s; ending the process, nothing uncommitted is lost",
            file=sys.stderr,
            flush=True,
        )
        os._exit(EXIT_CODE)
