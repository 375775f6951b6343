"""From raw scores to p-values and to the 0-100 score that means the same after every retraining.

The p-value is split-conformal (Vovk et al. 2005, chapter 2; Bates et al. 2023): with n held-out normal scores and one
uniform u a record,

    p(s) = (#{calibration > s} + u · (1 + #{calibration = s})) / (n + 1)

and beyond the largest calibration score it follows a generalised Pareto tail fitted to the excesses over a high quantile
(Pickands 1975; peaks over threshold as in Siffer et al. 2017, SPOT, section 3), never above 1 / (n + 1). Only there it may
be smaller than that: a score that merely equals the largest is never rarer than one beyond it, whatever u is.
"""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from monitor.model.arrays import open_arrays

# p-values below this are not told apart; it also keeps log10 finite where a bounded tail ends.
SMALLEST_P = 1e-12


@dataclass(frozen=True)
class Tail:
    """Generalised Pareto tail `P(S > s) = rate · (1 + shape · (s − start) / scale)^(−1 / shape)` for s > start.

    With a negative shape it ends at `start − scale / shape`. A sample cannot know that what lies beyond is impossible: p-values are
    then those of the exponential tail with the same mean excess, which errs towards fewer and lower scores.

    Attributes:
        start: raw score above which it holds.
        rate: share of calibration scores above `start`.
        shape: ξ < 1; 0 is the exponential tail.
        scale: σ > 0, in raw-score units.
    """

    start: float
    rate: float
    shape: float
    scale: float

    def survival(self, raw_score: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(S > raw_score): float64 (n,), for scores above `start`."""
        excess = np.maximum(raw_score - self.start, 0.0) / self.scale
        if self.shape < 1e-9:
            return self.rate * np.exp(-excess * (1.0 - self.shape))
        return self.rate * np.power(1.0 + self.shape * excess, -1.0 / self.shape)

    def quantile(self, rate: float) -> float:
        """The raw score above which a share `rate` lies, by the fitted shape, a negative one as well.

        Args:
            rate: in (0, `self.rate`].
        """
        log_ratio = math.log(self.rate / rate)
        if abs(self.shape) < 1e-9:
            return self.start + self.scale * log_ratio
        return self.start + self.scale / self.shape * math.expm1(self.shape * log_ratio)


@dataclass(frozen=True)
class Calibration:
    """Held-out raw scores and the tail beyond them.

    Attributes:
        scores: float32 (n,), ascending, of rows that neither training nor preprocessing saw.
        tail: None when it could not be fitted; p-values then end at 1 / (n + 1).
    """

    scores: NDArray[np.float32]
    tail: Tail | None

    @cached_property
    def _distinct(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The distinct scores, ascending, and where each begins among all; behind them their number."""
        distinct, firsts = np.unique(self.scores, return_index=True)
        return distinct, np.append(firsts, len(self.scores)).astype(np.int64)

    def p_values(self, raw_score: NDArray[np.float32], tie_breaker: NDArray[np.float64]) -> NDArray[np.float64]:
        """p-values, float64 (n,), in [1e-12, 1]; under normal data they are uniform.

        Args:
            raw_score: float32 (n,); NaN, which a network gives where it overflows, counts as infinite.
            tie_breaker: float64 (n,) in [0, 1), from `tie_breakers`.
        """
        n = len(self.scores)
        raw_score = np.where(np.isnan(raw_score), np.float32(np.inf), raw_score)
        distinct, firsts = self._distinct
        place = np.searchsorted(distinct, raw_score)
        stop = place + (distinct.take(place, mode="clip") == raw_score)
        above = n - firsts[stop]
        equal = firsts[stop] - firsts[place]
        p: NDArray[np.float64] = np.maximum(1.0, above + tie_breaker * (1 + equal)) / (n + 1)
        beyond = raw_score > self.scores[-1]
        if beyond.any():
            p[beyond] = 1.0 / (n + 1)
            if self.tail is not None:
                p[beyond] = np.minimum(p[beyond], self.tail.survival(raw_score[beyond].astype(np.float64)))
        return np.maximum(p, SMALLEST_P)

    def to_npz(self) -> bytes:
        """The content of `calibration.npz`."""
        tail = [] if self.tail is None else [self.tail.start, self.tail.rate, self.tail.shape, self.tail.scale]
        buffer = io.BytesIO()
        np.savez(buffer, scores=self.scores, tail=np.array(tail, dtype=np.float64))
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> Calibration:
        """Reads `calibration.npz`.

        Raises:
            ValueError: it is not what `to_npz` writes.
        """
        with open_arrays(content) as arrays:
            scores, tail = arrays["scores"], arrays["tail"]
        if scores.dtype != np.float32 or scores.ndim != 1 or not len(scores):
            raise ValueError(f"scores must be float32 (n,) with n > 0, found {scores.dtype} {scores.shape}")
        if not np.isfinite(scores).all() or (np.diff(scores) < 0).any():
            raise ValueError("scores must be finite and ascending")
        return cls(scores=scores, tail=_parse_tail(tail))


def _parse_tail(numbers: NDArray[np.float64]) -> Tail | None:
    if numbers.shape == (0,):
        return None
    if numbers.shape != (4,) or not np.isfinite(numbers).all():
        raise ValueError(f"tail must be empty or four finite numbers, found {numbers.tolist()}")
    tail = Tail(*numbers.tolist())
    if not (tail.scale > 0 and 0 < tail.rate <= 1):
        raise ValueError(f"tail must have scale > 0 and rate in (0, 1], found {tail}")
    return tail


def score_of(p_value: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 0-100 score: `min(100, −100/6 · log10 p)`; p = 1e-3 is 50 and p = 1e-6 is 100."""
    return np.minimum(100.0, -100.0 / 6.0 * np.log10(p_value)) + 0.0


def threshold_of(target_alert_rate: float) -> float:
    """The score that a share of `target_alert_rate` of normal records reaches."""
    return float(score_of(np.array([target_alert_rate]))[0])


def p_value_of(score: float) -> float:
    """The p-value of a score below 100; the inverse of `score_of`."""
    return float(10.0 ** (-6.0 * score / 100.0))


def tie_breakers(bundle_sha256: str, topic: str, partition: int, offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """One number in [0, 1) a record, the same whenever this bundle meets this record again.

    Args:
        bundle_sha256: hex digest of the bundle.
        topic: where the record stands; for a file "" with partition 0 and its row number as offset.
        partition: its partition.
        offsets: int64 (n,).
    """
    digest = hashlib.sha256(f"{bundle_sha256}\0{topic}\0{partition}".encode()).digest()
    z = np.asarray(offsets).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(
        int.from_bytes(digest[:8], "little")
    )
    # The finaliser of SplitMix64 (Steele et al. 2014): every bit of the offset reaches every bit of the result.
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
