"""Stops the daemon when too many of the last records were invalid, so that a mistake does not drain a topic into dead letters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitor.errors import InvalidRecord, TooManyInvalidRecords


class InvalidWindow:
    """Counts invalid records among the last ones and says when there are too many.

    It trips as soon as the count alone exceeds `max_invalid_ratio` of a full window, so a topic of nothing but invalid
    records is left after a fraction of the window.
    """

    def __init__(self, window_rows: int) -> None:
        self._last = np.zeros(window_rows, dtype=np.bool_)

    def check(
        self, n_rows: int, invalid: Sequence[tuple[int, InvalidRecord]], *, topic: str, max_invalid_ratio: float
    ) -> None:
        """Takes the outcome of a batch, in order.

        Raises:
            TooManyInvalidRecords: the limit is exceeded at any point of the batch.
        """
        outcome = np.zeros(n_rows, dtype=np.bool_)
        outcome[[row for row, _ in invalid]] = True
        window = len(self._last)
        history = np.concatenate([self._last, outcome])
        self._last = history[-window:]
        if not invalid:
            return
        counts = np.cumsum(history)
        worst = int((counts[window:] - counts[:-window]).max(initial=0))
        if worst > max_invalid_ratio * window:
            raise TooManyInvalidRecords(
                topic=topic, invalid=worst, window=window, max_invalid_ratio=max_invalid_ratio, example=invalid[-1][1]
            )
