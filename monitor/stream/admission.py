"""What is looked at of every judged micro-batch, in order, before anything of it is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from monitor.stream.invalid_window import InvalidWindow
from monitor.stream.judged import Judged


@dataclass(frozen=True)
class Admission:
    """Counts what was invalid, then tells the observers.

    Attributes:
        window: of the last records.
        observers: want to see each batch; called by the thread that delivers.
    """

    window: InvalidWindow
    observers: Sequence[Callable[[Judged], None]] = ()

    def __call__(self, judged: Judged) -> None:
        """Lets a batch pass.

        Raises:
            TooManyInvalidRecords: more than `max_invalid_ratio` of the last records were invalid.
        """
        settings = judged.by.settings
        self.window.check(
            judged.batch.n_rows,
            judged.invalid,
            topic=settings.features_topic,
            max_invalid_ratio=settings.max_invalid_ratio,
        )
        for observe in self.observers:
            observe(judged)
