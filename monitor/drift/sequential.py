"""Abrupt drift: CUSUM tests on the p-values of a stream, a chunk of records at a time.

The stream is cut into chunks of 50 records wherever micro-batches end, so the same records give the same alarms. Each chunk
gives three statistics: the mean p-value, how many are at most 0.05, and how many are flagged. Each is compared with the stream's
own baseline, learned from its first 2,000 records under this model and refined until 20,000: a finite calibration set, a steady
share of true anomalies or dependence between neighbours are no drift. While it is learned the mean p-value alone is looked at, as
if it were ½ with three times the spread of independent records: where a model is replaced often there would be no test at all,
and a mean that is a quarter lower is no matter of baselines.

CUSUM of log-likelihood ratios (Page 1954; Lorden 1971, theorem 2: with exact baselines at least e^h chunks pass between false
alarms on average):

    W_t = max(0, W_{t-1} + l_t), alarm at W_t >= h

    statistic            increment l_t                                h     looks for
    mean p-value, z      2·|z| − 2, for each direction                10    a mean moved by two standard deviations of a chunk's
    count k of mean λ    (k·log r − λ·(r − 1)) / dispersion           10    r = 2.5 times as many p <= 0.05
    the same             the same                                     7     r = 8 times as many flags

A change stays; what comes back by itself is a swing of the stream's own, such as that of the hours of a day. So when an alarm
has ended, its test's h is raised to 1.5 times the height that it had reached.

An increment is at most 0.4·h, so it takes three chunks to alarm, and no single burst of anomalies does. Simulated with a target
of 0.001, calibration on 3,000 rows and 1 % true anomalies (the tests hold it to the last column):

    stream                                                         median delay, records    found within 500
    nothing changes (three false alarms in ten million records)    -                        -
    scores rise by half a standard deviation                       137                      all
    scores rise or fall by a whole one                             137                      all
    6 % of the records become anomalies                            237                      93 %
    flag rate from 0.001 to 0.011, nothing else changes            562                      45 %: five flags are due by then
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

CHUNK_RECORDS = 50
WARM_UP_CHUNKS = 40
BASELINE_CHUNKS = 400
_THRESHOLD = 10.0
_FLAG_THRESHOLD = 7.0
# Of the threshold.
_LARGEST_STEP = 0.4
# Of the threshold; an alarm ends when the statistic is back at 0, which takes a few hundred records from up there.
_CEILING = 2.0
# Of the height of an alarm that ended by itself: the threshold from then on.
_SWING = 1.5
_TAIL = 0.05
_TAIL_RATIO = 2.5
_FLAG_RATIO = 8.0
# Of the mean of so many independent uniform numbers.
_UNIFORM_SD = math.sqrt(1 / 12 / CHUNK_RECORDS)
# Of the mean p-value of a chunk, before there is a baseline: only where a quarter of the records were anomalies would it alarm.
_UNKNOWN_SD = 3.0 * _UNIFORM_SD

_Numbers = TypeVar("_Numbers", float, NDArray[np.float64])
# Value, zero_at and height of a `_Cusum`.
_Course = tuple[float, int, float]
Statistic = Literal["scores_rose", "scores_fell", "tail", "flag_rate"]
# All others look for higher scores.
_FALL: Statistic = "scores_fell"


@dataclass(frozen=True)
class Change:
    """An alarm.

    Attributes:
        statistic: which one; `scores_rose` and `scores_fell` are the two directions of the mean p-value.
        at: number of records after which it was raised, the first is 1.
        since: number of records before the change, as far as the test can tell.
    """

    statistic: Statistic
    at: int
    since: int


@dataclass
class _Baseline:
    """Mean and variance of a statistic over the chunks that are known to be before any change."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, n: int, total: float, squares: float) -> None:
        self.n += n
        self.total += total
        self.squares += squares

    @property
    def mean(self) -> float:
        return self.total / self.n

    @property
    def variance(self) -> float:
        return max(0.0, (self.squares - self.total * self.total / self.n) / (self.n - 1))


@dataclass
class _Cusum:
    """One test, with the chunks it has not yet made its peace with."""

    name: Statistic
    threshold: float = _THRESHOLD
    value: float = 0.0
    zero_at: int = 0
    alarmed: bool = False
    height: float = 0.0

    def step(self, increment: float, chunk: int) -> bool:
        """Takes one chunk's increment; whether it raises an alarm now."""
        self.value = max(0.0, self.value + min(_LARGEST_STEP * self.threshold, increment))
        self.value = min(self.value, _CEILING * self.threshold)
        self.height = max(self.height, self.value)
        if self.value == 0.0:
            if self.alarmed:
                self.threshold = max(self.threshold, _SWING * self.height)
            self.zero_at, self.alarmed, self.height = chunk, False, 0.0
        if self.alarmed or self.value < self.threshold:
            return False
        self.alarmed = True
        return True

    def restart(self, chunk: int) -> None:
        """Forgets everything but its threshold."""
        self.value, self.zero_at, self.alarmed, self.height = 0.0, chunk, False, 0.0

    def run(self, increments: Sequence[float], chunk: int) -> _Course | None:
        """Where `step` would lead from chunk to chunk; None when one of them raises an alarm or lies within one."""
        if self.alarmed:
            return None
        value, zero_at, height = self.value, self.zero_at, self.height
        threshold, largest = self.threshold, _LARGEST_STEP * self.threshold
        for number, increment in enumerate(increments, chunk):
            value += min(largest, increment)
            if value <= 0.0:
                value, zero_at, height = 0.0, number, 0.0
            elif value >= threshold:
                return None
            elif value > height:
                height = value
        return value, zero_at, height


@dataclass
class _Watched(ABC):
    """A statistic of the chunks, its baseline and the tests that look at it."""

    needs_baseline: ClassVar[bool] = True
    cusums: tuple[_Cusum, ...]
    baseline: _Baseline = field(default_factory=_Baseline)
    pending: _Baseline = field(default_factory=_Baseline)

    @property
    def is_settled(self) -> bool:
        """Whether the baseline learns no more."""
        return self.baseline.n >= BASELINE_CHUNKS

    @abstractmethod
    def increments(self, value: _Numbers) -> tuple[_Numbers, ...]:
        """Log-likelihood ratio of a chunk, or of each of several chunks, for each test."""

    @abstractmethod
    def refit(self) -> None:
        """Takes its parameters from the baseline."""

    def take(self, value: float, chunk: int) -> _Cusum | None:
        """One chunk (the first is number 1); the test that raises an alarm, if one does."""
        if chunk <= WARM_UP_CHUNKS:
            self.baseline.add(1, value, value * value)
            alarm = None if self.needs_baseline else self._step(value, chunk)
            if chunk == WARM_UP_CHUNKS:
                self.refit()
                for cusum in self.cusums:
                    cusum.restart(chunk)
            return alarm
        alarm = self._step(value, chunk)
        if not self.is_settled:
            self._learn(value, quiet=all(cusum.value == 0.0 for cusum in self.cusums))
        return alarm

    def _step(self, value: float, chunk: int) -> _Cusum | None:
        alarm = None
        for cusum, increment in zip(self.cusums, self.increments(value), strict=True):
            if cusum.step(increment, chunk):
                alarm = cusum
        return alarm

    def _learn(self, value: float, *, quiet: bool) -> None:
        """Chunks join the baseline once the test has come back to 0 after them, without an alarm."""
        if any(cusum.alarmed for cusum in self.cusums):
            self.pending = _Baseline()
            return
        self.pending.add(1, value, value * value)
        if quiet:
            self.baseline.add(self.pending.n, self.pending.total, self.pending.squares)
            self.pending = _Baseline()
            self.refit()


@dataclass
class _MeanP(_Watched):
    """Mean p-value of a chunk: looks for two standard deviations, both ways."""

    needs_baseline: ClassVar[bool] = False
    mean: float = 0.5
    sd: float = _UNKNOWN_SD

    def refit(self) -> None:
        self.mean, self.sd = self.baseline.mean, max(_UNIFORM_SD, math.sqrt(self.baseline.variance))

    def increments(self, value: _Numbers) -> tuple[_Numbers, ...]:
        z = (value - self.mean) / self.sd
        return -2.0 * z - 2.0, 2.0 * z - 2.0


@dataclass
class _Count(_Watched):
    """How many p-values of a chunk are at most `level`: looks for `ratio` times as many."""

    level: float = _TAIL
    ratio: float = _TAIL_RATIO
    expected: float = 0.0
    dispersion: float = 1.0

    def refit(self) -> None:
        # One more than was counted: a baseline without any flag does not say that there will be none.
        self.expected = max(CHUNK_RECORDS * self.level, (self.baseline.total + 1.0) / self.baseline.n)
        self.dispersion = max(1.0, self.baseline.variance / self.expected)

    def increments(self, value: _Numbers) -> tuple[_Numbers, ...]:
        return ((value * math.log(self.ratio) - self.expected * (self.ratio - 1.0)) / self.dispersion,)


class SequentialTest:
    """Watches the p-values of one model, in the order of the stream; owned by one thread."""

    def __init__(self, target_alert_rate: float) -> None:
        """`target_alert_rate` is the largest p-value that is flagged."""
        self._mean = _MeanP((_Cusum("scores_rose"), _Cusum("scores_fell")))
        self._tail = _Count((_Cusum("tail"),))
        self._flags = _Count((_Cusum("flag_rate", _FLAG_THRESHOLD),), level=target_alert_rate, ratio=_FLAG_RATIO)
        self._cusums = self._mean.cusums + self._tail.cusums + self._flags.cusums
        self._target = target_alert_rate
        self._carry = np.zeros(0)
        self._chunks = 0

    @property
    def value(self) -> float:
        """How near to an alarm: 1 and more is one, 0 is nothing to see."""
        return max(cusum.value / cusum.threshold for cusum in self._cusums)

    def observe(self, p_values: NDArray[np.float64]) -> list[Change]:
        """Takes the next records.

        Args:
            p_values: float64 (n,), any n.

        Returns:
            The alarms that they raise; while one lasts there is no other in its direction.
        """
        p = np.concatenate([self._carry, p_values]) if len(self._carry) else p_values
        n_chunks = len(p) // CHUNK_RECORDS
        self._carry = p[n_chunks * CHUNK_RECORDS :].copy()
        chunks = p[: n_chunks * CHUNK_RECORDS].reshape(n_chunks, CHUNK_RECORDS)
        means = chunks.mean(axis=1)
        tails, flags = (np.count_nonzero(chunks <= level, axis=1).astype(float) for level in (_TAIL, self._target))
        if self._run([(self._mean, means), (self._tail, tails), (self._flags, flags)]):
            self._chunks += n_chunks
            return []
        found = (self._take(*chunk) for chunk in zip(means.tolist(), tails.tolist(), flags.tolist(), strict=True))
        return [change for change in found if change is not None]

    def _run(self, chunks: Sequence[tuple[_Watched, NDArray[np.float64]]]) -> bool:
        """Takes chunks without any alarm, several times as fast as one by one; otherwise nothing, and False."""
        if not all(watched.is_settled for watched, _ in chunks):
            return False
        courses = [
            (cusum, cusum.run(increments.tolist(), self._chunks + 1))
            for watched, values in chunks
            for cusum, increments in zip(watched.cusums, watched.increments(values), strict=True)
        ]
        calm = [(cusum, course) for cusum, course in courses if course is not None]
        if len(calm) < len(courses):
            return False
        for cusum, course in calm:
            cusum.value, cusum.zero_at, cusum.height = course
        return True

    def _take(self, mean: float, tail: float, flags: float) -> Change | None:
        """One chunk."""
        self._chunks += 1
        taken = (
            self._flags.take(flags, self._chunks),
            self._mean.take(mean, self._chunks),
            self._tail.take(tail, self._chunks),
        )
        alarms = [alarm for alarm in taken if alarm is not None]
        if not alarms:
            return None
        lasting = {cusum.name == _FALL for cusum in self._cusums if cusum.alarmed and cusum not in alarms}
        first = next((alarm for alarm in alarms if (alarm.name == _FALL) not in lasting), None)
        if first is None:
            return None
        return Change(first.name, at=self._chunks * CHUNK_RECORDS, since=first.zero_at * CHUNK_RECORDS)
