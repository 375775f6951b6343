"""The gate: a challenger is held against the champion and the anchor, and every check says its limit, value and verdict.

The champion alone could be walked away: each of many poisoned retrainings may lose a little. The anchor never changes by
itself, so what all of them lose together is bounded by `anchor_fall`. When the newest rows no longer look like those the
champion knows (`drift`), checks that ask for likeness to the past are waived; those against the anchor are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import binom, kstest, norm, spearmanr
from sklearn.metrics import roc_auc_score

from monitor.model.bundle import Bundle
from monitor.model.calibration import tie_breakers
from monitor.model.detection import detect
from training.auroc import AurocPair, compare_auroc
from training.expectations import expectation_error
from training.suite import KINDS, Suite

Verdict = Literal["passed", "refused", "waived"]

_ROWS_AT_ONCE = 4096
# Of a hundred sound challengers one may miss a band by bad luck in the draw of the rows.
_CHANCE = 0.01
_CHANCE_SD = float(norm.ppf(1 - _CHANCE))
# p-values of the champion that are this far from uniform (Kolmogorov-Smirnov distance) say that the data has moved.
DRIFT_DISTANCE = 0.1
# Of the champion nothing is said that a sound one would show more often than this.
_DOUBT_CHANCE = 1e-4
LEAST_LABELLED = 10


@dataclass(frozen=True)
class GateLimits:
    """What a challenger must keep.

    Attributes:
        alert_rate_band: realised alert rate in units of the target, lower and upper end.
        champion_fall: how far its AUROC may lie below the champion's, beside what chance explains.
        anchor_fall: how far it may lie below the anchor's on the frozen suite, chance or not; None leaves the anchor out.
        anchor_kind_fall: the same for each kind of anomaly by itself.
        least_auroc: what it must reach on anomalies made from the newest rows.
        least_rank_correlation: of its scores with the champion's (Spearman), on recent rows and anomalies made from them.
            Sound retrainings reach 0.95 where features are closely tied and 0.71 on the noisy Elec2.
        expectation_growth: of its error in expected values (`training.expectations`) on the last window, in units of the
            champion's. A detector may rank anomalies well by one part of its score while a network that was hardly trained
            states the expected values; 100 instead of 1,500 training steps make it nine times as large.
        expectation_slack: by which it may grow in any case.
    """

    alert_rate_band: tuple[float, float] = (0.5, 2.0)
    champion_fall: float = 0.005
    anchor_fall: float | None = 0.015
    anchor_kind_fall: float = 0.05
    least_auroc: float = 0.6
    least_rank_correlation: float = 0.6
    expectation_growth: float = 2.0
    expectation_slack: float = 0.1


@dataclass(frozen=True)
class Trial:
    """The rows on which models are compared; the challenger has learned from none of them.

    Attributes:
        frozen: the reference of the anchor.
        window: of the newest rows those that no challenger was calibrated on, taken as normal, in the order of time.
        newest: all of the newest rows, for what the champion says of them.
        recent: anomalies made from the window.
        labelled: records that people judged; None when there are too few.
        labels: bool (n,), true = anomaly, for `labelled`.
    """

    frozen: Suite
    window: pl.DataFrame
    newest: pl.DataFrame
    recent: Suite
    labelled: pl.DataFrame | None = None
    labels: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Check:
    """One question and its answer.

    Attributes:
        name: what was asked.
        limit: what the value had to keep, in words.
        value: what it was.
        verdict: `waived` is a limit that was missed for a reason that excuses it.
    """

    name: str
    limit: str
    value: float
    verdict: Verdict


@dataclass(frozen=True)
class GateResult:
    """All checks of one challenger.

    Attributes:
        champion: version it was held against; None when there was none, or one for another schema.
        anchor: likewise.
        drift: whether the newest rows differ from what the champion knows.
        champion_off_target: whether its alert rate on the newest rows lies outside of the band, and not by chance.
        checks: in the order in which they were made.
    """

    champion: str | None
    anchor: str | None
    drift: bool
    champion_off_target: bool
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Literal["passed", "refused"]:
        """Refused as soon as one check is."""
        return "refused" if any(check.verdict == "refused" for check in self.checks) else "passed"

    @property
    def refused(self) -> tuple[Check, ...]:
        """The checks that were missed."""
        return tuple(check for check in self.checks if check.verdict == "refused")

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {"verdict": self.verdict} | asdict(self) | {"checks": [asdict(check) for check in self.checks]}


@dataclass(frozen=True)
class _Measured:
    """One model on all rows of a trial; raw scores float32, p-values float64."""

    frozen: NDArray[np.float32]
    frozen_p: NDArray[np.float64]
    window_p: NDArray[np.float64]
    recent: NDArray[np.float32]
    labelled: NDArray[np.float32] | None
    expectation_error: float


def judge(
    challenger: Bundle,
    champion: Bundle | None,
    anchor: Bundle | None,
    trial: Trial,
    *,
    target_alert_rate: float,
    limits: GateLimits,
) -> GateResult:
    """Makes all checks.

    Args:
        challenger: not promoted yet.
        champion: in service; None when there is none for this schema.
        anchor: that never changes by itself; likewise.
        trial: the rows.
        target_alert_rate: the share of normal rows that is to be flagged.
        limits: what must be kept.
    """
    own = _measure(challenger, trial)
    theirs = _measure(champion, trial) if champion else None
    newest_p = _scored(champion, trial.newest)[1] if champion else np.zeros(0)
    drift = has_drifted(newest_p)
    checks = [*_check_alert_rates(own, target_alert_rate, limits.alert_rate_band, drift=drift)]
    checks.append(_at_least("AUROC on recent anomalies", _auroc(trial.recent, own.recent), limits.least_auroc))
    if theirs is not None:
        checks += _check_champion(own, theirs, trial, limits, drift=drift)
    if anchor is not None and limits.anchor_fall is not None:
        checks += _check_anchor(own, _measure(anchor, trial), trial, limits.anchor_fall, limits.anchor_kind_fall)
    return GateResult(
        champion=champion.version if champion else None,
        anchor=anchor.version if anchor else None,
        drift=drift,
        champion_off_target=is_off_target(newest_p, target_alert_rate, limits.alert_rate_band),
        checks=tuple(checks),
    )


def has_drifted(p_value: NDArray[np.float64]) -> bool:
    """Whether the champion's p-values on new rows are far from uniform, and by more than chance."""
    if not len(p_value):
        return False
    test = kstest(p_value, "uniform")
    return bool(test.statistic >= DRIFT_DISTANCE and test.pvalue <= _DOUBT_CHANCE)


def is_off_target(p_value: NDArray[np.float64], target: float, band: tuple[float, float]) -> bool:
    """Whether so many rows are flagged, or so few, that the rate lies outside of its band, and chance about the target is no reason.

    Unlike `alert_rate_limits` it doubts the model: a rate that a sound one may show once in a hundred draws is not let pass.
    """
    n, flagged = len(p_value), int(np.sum(p_value <= target))
    chance = min(binom.cdf(flagged, n, target), binom.sf(flagged - 1, n, target))
    return not band[0] * target * n <= flagged <= band[1] * target * n and bool(chance <= _DOUBT_CHANCE)


def alert_rate_limits(n: int, target: float, band: tuple[float, float]) -> tuple[float, float]:
    """Between which shares of n rows a model may flag whose true rate lies within the band.

    The band is widened by what one sound model in a hundred misses it by, in a sample of this size, to either side.
    """
    low, high = (factor * target for factor in band)
    return float(binom.ppf(_CHANCE, n, low)) / n, float(binom.ppf(1 - _CHANCE, n, min(high, 1.0))) / n


def _measure(bundle: Bundle, trial: Trial) -> _Measured:
    frozen, frozen_p = _scored(bundle, trial.frozen.rows)
    recent, _ = _scored(bundle, trial.recent.rows)
    _, window_p = _scored(bundle, trial.window)
    labelled = None if trial.labelled is None else _scored(bundle, trial.labelled)[0]
    error = expectation_error(bundle, trial.window)
    return _Measured(frozen, frozen_p[: trial.frozen.normals.height], window_p, recent, labelled, error)


def _scored(bundle: Bundle, frame: pl.DataFrame) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Raw scores and p-values, with the daemon's own code, in bounded memory."""
    breakers = tie_breakers(bundle.sha256, "", 0, np.arange(frame.height, dtype=np.int64))
    starts = range(0, frame.height, _ROWS_AT_ONCE)
    parts = [
        detect(bundle, frame.slice(start, _ROWS_AT_ONCE), breakers[start : start + _ROWS_AT_ONCE]) for start in starts
    ]
    raw_score = np.concatenate([part.raw_score for part in parts])
    return np.nan_to_num(raw_score, nan=np.inf), np.concatenate([part.p_value for part in parts])


def _check_alert_rates(own: _Measured, target: float, band: tuple[float, float], *, drift: bool) -> Iterator[Check]:
    for name, p_value, excused in (
        ("alert rate on reference normals", own.frozen_p, drift),
        ("alert rate on the last window", own.window_p, False),
    ):
        low, high = alert_rate_limits(len(p_value), target, band)
        rate = _alert_rate(p_value, target)
        yield Check(name, f"{low:.2g} to {high:.2g}", rate, _verdict(low <= rate <= high, excused))


def _alert_rate(p_value: NDArray[np.float64], target: float) -> float:
    return float(np.mean(p_value <= target))


def _check_champion(
    own: _Measured, champion: _Measured, trial: Trial, limits: GateLimits, *, drift: bool
) -> Iterator[Check]:
    fall = limits.champion_fall
    recent = compare_auroc(trial.recent.labels, own.recent, champion.recent)
    yield _not_below("AUROC on recent anomalies against the champion", recent, fall)
    frozen = compare_auroc(trial.frozen.labels, own.frozen, champion.frozen)
    yield _not_below("AUROC on the frozen suite against the champion", frozen, fall, excused=drift)
    correlation = float(np.nan_to_num(spearmanr(own.recent, champion.recent).statistic))
    yield _at_least("rank correlation with the champion", correlation, limits.least_rank_correlation, excused=drift)
    error = champion.expectation_error
    limit = max(limits.expectation_growth * error, error + limits.expectation_slack)
    yield _at_most("error of expected values against the champion", own.expectation_error, limit)
    if own.labelled is not None and champion.labelled is not None and trial.labels is not None:
        labelled = compare_auroc(trial.labels, own.labelled, champion.labelled)
        yield _not_below("AUROC on labelled records against the champion", labelled, fall)


def _not_below(name: str, pair: AurocPair, fall: float, *, excused: bool = False) -> Check:
    """The champion's area, less what may be lost, less what chance takes from one sound challenger in a hundred."""
    return _at_least(name, pair.first, pair.second - fall - _CHANCE_SD * pair.difference_sd, excused=excused)


def _check_anchor(own: _Measured, anchor: _Measured, trial: Trial, fall: float, kind_fall: float) -> Iterator[Check]:
    limit = _auroc(trial.frozen, anchor.frozen) - fall
    yield _at_least("AUROC on the frozen suite against the anchor", _auroc(trial.frozen, own.frozen), limit)
    for kind in KINDS:
        value, theirs = (_auroc(trial.frozen, model.frozen, kind) for model in (own, anchor))
        yield _at_least(f"AUROC on {kind} rows against the anchor", value, theirs - kind_fall)


def _at_least(name: str, value: float, limit: float, *, excused: bool = False) -> Check:
    return Check(name, f"at least {limit:.4g}", float(value), _verdict(value >= limit, excused))


def _at_most(name: str, value: float, limit: float) -> Check:
    return Check(name, f"at most {limit:.4g}", float(value), _verdict(value <= limit, excused=False))


def _verdict(kept: bool, excused: bool) -> Verdict:  # noqa: FBT001 - both are what was found, not a mode
    if kept:
        return "passed"
    return "waived" if excused else "refused"


def _auroc(suite: Suite, raw_score: NDArray[np.float32], kind: str | None = None) -> float:
    """Of the normal rows against the anomalies, all or those of one kind. Infinite scores rank highest."""
    chosen = np.ones(len(raw_score), dtype=bool)
    if kind is not None:
        chosen[suite.normals.height :] = suite.kinds == kind
    finite = np.minimum(raw_score[chosen], np.finfo(np.float32).max)
    return float(roc_auc_score(suite.labels[chosen], finite))
