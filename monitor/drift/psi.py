"""Gradual drift: the population stability index of each feature, on windows of 5,000 sampled rows.

With q the shares of a window over the bins and r those of the training rows (from the bundle; a bundle without them is compared
with the first window that it scores),

    PSI = Σ (q − r) · ln(q / r)

Without drift its mean is (B − 1)·(1/n + 1/m) and its standard deviation √(2(B − 1))·(1/n + 1/m) for B bins, n rows of one and
m of the other (Yurdakul and Naranjo 2020, Journal of Risk Model Validation 14(4)): 0.018 for ten bins at 1,000 rows each, 0.1 for
a category of 256 levels at 5,000. That mean is subtracted, so that 0 is "no drift" for every feature. A feature drifts when
three windows in a row exceed both 0.1, the customary limit of "moderate" (Siddiqi 2006, Credit Risk Scorecards), and four
standard deviations.

With more than three numbers or thirty levels, rows are sampled, so that the watch costs no more for wide records. It goes by the
pseudo-random number that also breaks ties of their scores: the same record is always in or out. A feature that follows the clock
drifts in each window that is shorter than a turn of the clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.model.preprocess import Preprocessor
from monitor.model.shares import Reference, condense, count_bins, describe

WINDOW_ROWS = 5_000
PERSISTENCE = 3
LIMIT = 0.1
_DEVIATIONS = 4.0
# To compare a number with its deciles is the unit; to add up a level is so much cheaper.
_EFFORT_OF_A_LEVEL = 0.1
_EFFORT_A_RECORD = 3.0


@dataclass(frozen=True)
class SampledRows:
    """What of a micro-batch the watch looks at.

    Attributes:
        X: float32 (k, n_condensed), a copy with arrays condensed to one number.
        missing: bool (k, n_features), or None when no value was missing.
    """

    X: NDArray[np.float32]
    missing: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Shift:
    """A feature that has drifted.

    Attributes:
        feature: its name.
        psi: of the last window, what chance explains taken off.
    """

    feature: str
    psi: float


class InputWatch:
    """Compares the inputs of one model with what it was trained on. `sample` is for any thread, the rest for one."""

    def __init__(self, preprocessor: Preprocessor, window_rows: int = WINDOW_ROWS) -> None:
        """`preprocessor` is that of the model in service."""
        self.psi: dict[str, float] = {}
        self._preprocessor = preprocessor
        self._reference = preprocessor.reference
        effort = sum(1.0 if width == 1 else _EFFORT_OF_A_LEVEL * width for width in preprocessor.widths)
        self._share = min(1.0, _EFFORT_A_RECORD / effort)
        n_condensed = condense(preprocessor, np.empty((0, preprocessor.n_columns), dtype=np.float32)).shape[1]
        self._X = np.empty((window_rows, n_condensed), dtype=np.float32)
        self._missing = np.zeros((window_rows, len(preprocessor.columns)), dtype=np.bool_)
        self._filled = 0
        self._in_a_row = [0] * len(preprocessor.columns)

    def sample(
        self, X: NDArray[np.float32], missing: NDArray[np.bool_] | None, tie_breaker: NDArray[np.float64]
    ) -> SampledRows:
        """Picks rows.

        Args:
            X: float32 (n, n_columns), as `Preprocessor.transform` gives it.
            missing: bool (n, n_features) or None, the same.
            tie_breaker: float64 (n,) in [0, 1), of the same rows, from `monitor.model.calibration.tie_breakers`.
        """
        chosen = np.flatnonzero(tie_breaker < self._share)
        return SampledRows(condense(self._preprocessor, X[chosen]), None if missing is None else missing[chosen])

    def observe(self, rows: SampledRows) -> list[Shift]:
        """Takes the next rows; the features whose drift is certain since a window that these rows complete."""
        shifts: list[Shift] = []
        taken = 0
        while taken < len(rows.X):
            stop = min(len(rows.X), taken + len(self._X) - self._filled)
            place = slice(self._filled, self._filled + stop - taken)
            self._X[place] = rows.X[taken:stop]
            self._missing[place] = False if rows.missing is None else rows.missing[taken:stop]
            self._filled, taken = place.stop, stop
            if self._filled == len(self._X):
                self._filled = 0
                shifts += self._close()
        return shifts

    def _close(self) -> list[Shift]:
        """Judges a full window."""
        if self._reference is None:
            self._reference = describe(self._preprocessor, self._X, self._missing)
            return []
        reference = self._reference
        edges = [feature.edges for feature in reference.features]
        counts = count_bins(self._preprocessor, edges, self._X, self._missing.sum(axis=0))
        shifts = []
        for place, (name, bins) in enumerate(zip(self._preprocessor.feature_names, counts, strict=True)):
            psi, limit = _compare(bins, reference, place)
            self.psi[name] = psi
            self._in_a_row[place] = self._in_a_row[place] + 1 if psi > limit else 0
            if self._in_a_row[place] == PERSISTENCE:
                shifts.append(Shift(name, psi))
        return sorted(shifts, key=lambda shift: -shift.psi)


def _compare(bins: NDArray[np.int64], reference: Reference, place: int) -> tuple[float, float]:
    """PSI of a feature's window without what chance explains, and the limit above which it counts."""
    psi = population_stability_index(bins, reference.features[place].shares, reference.n_rows)
    used = int(np.count_nonzero((bins > 0) | (np.array(reference.features[place].shares) > 0)))
    per_bin = 1.0 / int(bins.sum()) + 1.0 / reference.n_rows
    return max(0.0, psi - (used - 1) * per_bin), max(LIMIT, _DEVIATIONS * math.sqrt(2.0 * (used - 1)) * per_bin)


def population_stability_index(bins: NDArray[np.int64], shares: Sequence[float], n_rows: int) -> float:
    """PSI of counts against the shares of `n_rows` other rows; half a row is added to each bin, so that none is empty.

    Args:
        bins: int64 (n_bins,).
        shares: of the other rows, (n_bins,), adding up to 1.
        n_rows: how many those were.
    """
    q = (bins + 0.5) / (bins.sum() + 0.5 * len(bins))
    r = (np.array(shares) * n_rows + 0.5) / (n_rows + 0.5 * len(bins))
    return float(((q - r) * np.log(q / r)).sum())
