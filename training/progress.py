"""The progress bar of a training: steps, losses, time left."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from rich.console import Console

    from training.trainer import Progress as TrainingStep

PLAIN_LINE_EVERY_S = 5.0


class TrainingProgress:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        """Shows itself on `console` once entered."""
        self._console = console
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=None, losses="")
        self._started = time.monotonic()
        self._next_line_at = self._started

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, step: TrainingStep) -> None:
        """Shows where the training stands."""
        losses = " ".join(f"{name} {value:.3g}" for name, value in step.losses.items())
        self._bar.update(self._task, completed=step.step, total=step.steps, losses=losses)
        if not self._console.is_terminal and time.monotonic() >= self._next_line_at:
            elapsed_s = time.monotonic() - self._started
            left_s = elapsed_s / step.step * (step.steps - step.step)
            self._console.print(f"training step {step.step}/{step.steps}, {losses}, {left_s:.0f} s left")
            self._next_line_at = time.monotonic() + PLAIN_LINE_EVERY_S
