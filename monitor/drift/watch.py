"""The drift watch of a monitor: both detectors for the model in service, their events, and what the metrics show."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from monitor.drift.psi import PERSISTENCE, InputWatch, SampledRows
from monitor.drift.sequential import Change, SequentialTest, Statistic
from monitor.model.preprocess import Preprocessor

# The flag rate is that of so many last records, at least.
_RATE_RECORDS = 5_000

_WORDS: dict[Statistic, str] = {
    "scores_rose": "the scores are higher than they were",
    "scores_fell": "the scores are lower than they were",
    "tail": "high scores are more frequent than they were",
    "flag_rate": "more records are flagged than were",
}


@dataclass(frozen=True)
class Drift:
    """An event: the records are not those any more that the model knows.

    Attributes:
        kind: `abrupt` is found by the scores within some hundred records, `gradual` by the inputs within some windows.
        statistic: which test found it; `psi` for a gradual one.
        features: that drifted, the worst first; empty for an abrupt one.
        at: number of scored records after which it was found, counted since the model came into service.
        since: number of records before it began, as far as can be told; None for a gradual one.
        flag_rate: share of the last records that were flagged.
        target: share that is expected.
    """

    kind: Literal["abrupt", "gradual"]
    statistic: Statistic | Literal["psi"]
    features: tuple[str, ...]
    at: int
    since: int | None
    flag_rate: float
    target: float

    @property
    def reason(self) -> str:
        """A sentence."""
        if self.statistic == "psi":
            named = ", ".join(self.features[:5]) + (", …" if len(self.features) > 5 else "")
            return f"these features are distributed otherwise than in training, for {PERSISTENCE} windows: {named}"
        return f"{_WORDS[self.statistic]}; {self.flag_rate:.2%} of the last records were flagged, expected {self.target:.2%}"

    @property
    def detail(self) -> Mapping[str, Any]:
        """The fields, as a model event carries them."""
        return {
            "kind": self.kind,
            "statistic": self.statistic,
            "features": list(self.features),
            "at_record": self.at,
            "since_record": self.since,
            "flag_rate": self.flag_rate,
            "target_alert_rate": self.target,
        }


class DriftWatch:
    """Watches one model from its first record on; another model or another target gets a new watch.

    `sample` is for any thread; `observe` and the figures belong to one, which calls it batch after batch.
    """

    def __init__(self, preprocessor: Preprocessor, target_alert_rate: float) -> None:
        """Begins without any record.

        Args:
            preprocessor: of the model in service.
            target_alert_rate: the largest p-value that is flagged.
        """
        self._scores = SequentialTest(target_alert_rate)
        self._inputs = InputWatch(preprocessor)
        self._target = target_alert_rate
        self._seen = 0
        self._recent: deque[tuple[int, int]] = deque()
        self._recent_records = 0
        self._recent_flagged = 0

    @property
    def score_drift(self) -> float:
        """How near the scores are to an alarm: 0 is no sign, 1 and more is drift."""
        return self._scores.value

    @property
    def input_drift(self) -> Mapping[str, float]:
        """PSI by feature of the last full window, what chance explains taken off; empty before there was one."""
        return self._inputs.psi

    @property
    def flag_rate_ratio(self) -> float:
        """Share of flagged among the last records, in units of the target; 0 before the first record."""
        return self._flag_rate / self._target

    @property
    def _flag_rate(self) -> float:
        return self._recent_flagged / max(1, self._recent_records)

    def sample(
        self, X: NDArray[np.float32], missing: NDArray[np.bool_] | None, tie_breaker: NDArray[np.float64]
    ) -> SampledRows:
        """Picks the rows of a micro-batch whose inputs are looked at; copies them.

        Args:
            X: float32 (n, n_columns), of the scored records, in order.
            missing: bool (n, n_features), or None when no value was missing.
            tie_breaker: float64 (n,) in [0, 1), of the same records, from `monitor.model.calibration.tie_breakers`.
        """
        return self._inputs.sample(X, missing, tie_breaker)

    def observe(self, p_values: NDArray[np.float64], rows: SampledRows) -> list[Drift]:
        """Takes the next micro-batch.

        Args:
            p_values: float64 (n,), of the scored records, in order.
            rows: what `sample` picked of them.
        """
        self._count(len(p_values), int(np.count_nonzero(p_values <= self._target)))
        drifts = [self._abrupt(change) for change in self._scores.observe(p_values)]
        features = tuple(shift.feature for shift in self._inputs.observe(rows))
        if features:
            drifts.append(Drift("gradual", "psi", features, self._seen, None, self._flag_rate, self._target))
        return drifts

    def _abrupt(self, change: Change) -> Drift:
        return Drift("abrupt", change.statistic, (), change.at, change.since, self._flag_rate, self._target)

    def _count(self, n_records: int, n_flagged: int) -> None:
        self._seen += n_records
        self._recent.append((n_records, n_flagged))
        self._recent_records += n_records
        self._recent_flagged += n_flagged
        while self._recent_records - self._recent[0][0] >= _RATE_RECORDS:
            records, flagged = self._recent.popleft()
            self._recent_records -= records
            self._recent_flagged -= flagged
