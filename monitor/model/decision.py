"""Which records are flagged: the one place where scores become decisions, for the daemon and the offline commands alike.

By `threshold_method` a record is flagged when

conformal   its p-value is at most `target_alert_rate`: ties are broken at random, and beyond the calibration rows the tail decides
            (Vovk et al. 2005, chapter 2)
quantile    its raw score reaches the (1 − `target_alert_rate`) quantile of the calibration rows: equal scores stay together
pot         its raw score reaches what the tail, fitted to the excesses over a high quantile, exceeds at that rate
            (peaks over threshold: Siffer et al. 2017, SPOT, section 3)
fixed       its 0-100 score reaches `threshold`

With `false_discovery_rate` the records of a micro-batch are flagged together, by their p-values (Benjamini & Hochberg 1995), and
none of these methods is asked. Scores and p-values are the same whatever decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from monitor.model.calibration import Calibration, p_value_of, score_of, threshold_of

Method = Literal["fixed", "quantile", "conformal", "pot"]


class DecisionSettings(Protocol):
    """The settings that decide; they belong to the deployment, not to the model."""

    @property
    def target_alert_rate(self) -> float:
        """Expected share of normal records that are flagged."""

    @property
    def threshold(self) -> float | None:
        """Cut on the 0-100 score."""

    @property
    def threshold_method(self) -> Method | None:
        """`fixed` where there is a threshold, else `conformal`, when None."""

    @property
    def false_discovery_rate(self) -> float | None:
        """Largest expected share of false alerts among those of a micro-batch."""


@dataclass(frozen=True)
class Decision:
    """What is decided of a micro-batch.

    Attributes:
        flagged: bool (n,).
        threshold: least score that a flagged record of this micro-batch can have.
    """

    flagged: NDArray[np.bool_]
    threshold: float


def decide(
    settings: DecisionSettings,
    calibration: Calibration,
    *,
    raw_score: NDArray[np.float32],
    p_value: NDArray[np.float64],
    score: NDArray[np.float64],
) -> Decision:
    """Flags records of one micro-batch; without `false_discovery_rate` each by itself.

    Args:
        settings: of the deployment.
        calibration: of the model that scored.
        raw_score: float32 (n,); NaN, which a network gives where it overflows, counts as infinite.
        p_value: float64 (n,), of these scores.
        score: float64 (n,), 0 to 100, of these p-values.
    """
    if settings.false_discovery_rate is not None:
        largest = benjamini_hochberg(p_value, settings.false_discovery_rate)
        return Decision(p_value <= largest, threshold_of(largest))
    threshold = decision_threshold(settings, calibration)
    cut = raw_cut(settings, calibration)
    return Decision(score >= threshold if cut is None else ~(raw_score < cut), threshold)


def decision_threshold(settings: DecisionSettings, calibration: Calibration) -> float:
    """The least score that can be flagged, 0 to 100; `false_discovery_rate` asks for more, batch by batch."""
    if settings.false_discovery_rate is not None:
        return threshold_of(settings.false_discovery_rate)
    if settings.threshold is not None:
        return settings.threshold
    cut = raw_cut(settings, calibration)
    if cut is None:
        return threshold_of(settings.target_alert_rate)
    # Of the records at the cut, the one whose tie is broken last.
    return threshold_of(float(calibration.p_values(np.array([cut]), np.ones(1))[0]))


def expected_alert_rate(settings: DecisionSettings) -> float:
    """Share of normal records that is to be flagged: the target, or what a fixed threshold amounts to."""
    return settings.target_alert_rate if settings.threshold is None else p_value_of(settings.threshold)


def can_flag(settings: DecisionSettings, calibration: Calibration) -> bool:
    """Whether any record can be flagged, however extreme: an infinite raw score, alone in its micro-batch, is tried."""
    raw_score = np.array([np.inf], np.float32)
    p_value = calibration.p_values(raw_score, np.zeros(1))
    decision = decide(settings, calibration, raw_score=raw_score, p_value=p_value, score=score_of(p_value))
    return bool(decision.flagged[0])


def explain_no_flags(settings: DecisionSettings, calibration: Calibration) -> str | None:
    """Why no record can be flagged, and what to do about it; None where one can.

    Without a tail no p-value of n calibration rows is below 1 / (n + 1).
    """
    if can_flag(settings, calibration):
        return None
    n = len(calibration.scores)
    if settings.false_discovery_rate is not None:
        rate, setting = settings.false_discovery_rate, f"false_discovery_rate = {settings.false_discovery_rate:g}"
        change = "raise false_discovery_rate"
    elif settings.threshold is not None:
        rate, setting = p_value_of(settings.threshold), f"threshold = {settings.threshold:g}"
        change = "lower threshold"
    else:
        rate, setting = settings.target_alert_rate, f"target_alert_rate = {settings.target_alert_rate:g}"
        change = "raise target_alert_rate"
    return (
        f"no record can be flagged, however extreme: {setting} asks for a p-value of {rate:.2g} or less, but {n:,} calibration rows "
        f"without a fitted tail give none below 1 / {n + 1:,}; calibrate on at least {math.ceil(1 / rate):,} rows, {change}, or "
        'decide by threshold_method = "pot", which then flags what reaches the highest of these rows'
    )


def benjamini_hochberg(p_value: NDArray[np.float64], rate: float) -> float:
    """The largest p-value that may be flagged so that at most a share `rate` of the flagged is expected to be false.

    With m p-values in ascending order it is k · rate / m for the largest k with p_(k) <= k · rate / m (Benjamini & Hochberg 1995,
    section 3.1); where there is no such k, that of k = 1, which none of them reaches.

    Args:
        p_value: float64 (m,).
        rate: in (0, 1).
    """
    m = max(1, len(p_value))
    limits = np.arange(1, len(p_value) + 1) * rate / m
    below = np.flatnonzero(np.sort(p_value) <= limits)
    return float(limits[below[-1]]) if len(below) else rate / m


def raw_cut(settings: DecisionSettings, calibration: Calibration) -> np.float32 | None:
    """The least raw score that is flagged; None for the methods that look at p-value or score."""
    target, scores, tail = settings.target_alert_rate, calibration.scores, calibration.tail
    if settings.threshold_method not in ("quantile", "pot"):
        return None
    if settings.threshold_method == "pot" and tail is not None and target < tail.rate:
        return np.float32(tail.quantile(target))
    # Where the tail does not reach, or none could be fitted, the quantile decides for `pot`, too.
    # Of n rows and one more that is like them, each is as likely to be the highest: so many of the n may lie at the cut or above.
    n_above = max(1, math.floor(target * (len(scores) + 1) * (1 + 1e-12)))
    least: np.float32 = scores[len(scores) - n_above]
    return least
