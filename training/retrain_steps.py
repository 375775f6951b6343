"""The steps of a retraining, logged and measured."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

log = logging.getLogger(__name__)

# Opens the step of that name.
Step = Callable[[str], AbstractContextManager[None]]


class Steps:
    """Logs and measures each step."""

    def __init__(self, on_step: Callable[[str], None] | None = None) -> None:
        """`on_step` is told the name of each step that begins."""
        self.seconds: dict[str, float] = {}
        self._on_step = on_step

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """One step; what is done twice is counted together."""
        log.info("retrain_step_started", extra={"step": name})
        if self._on_step:
            self._on_step(name)
        started = time.monotonic()
        yield
        seconds = round(time.monotonic() - started, 3)
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 3)
        log.info("retrain_step", extra={"step": name, "seconds": seconds})
