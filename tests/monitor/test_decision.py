"""What is flagged, by each method: its rate on normal records, its ties, its batch, and what an alert says of it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monitor.model.bundle import Bundle
from monitor.model.calibration import Calibration, Tail, score_of, threshold_of
from monitor.model.decision import (
    Decision,
    benjamini_hochberg,
    can_flag,
    decide,
    decision_threshold,
    expected_alert_rate,
    explain_no_flags,
    raw_cut,
)
from monitor.settings import Settings
from monitor.stream.broker import Cluster
from monitor.stream.pipeline import Pipeline
from tests.machines import as_json, readings
from tests.monitor.records import batch_of, segment

METHODS = ("conformal", "quantile", "pot")
# The tail of the standard exponential distribution beyond its 98 % quantile, exactly.
EXPONENTIAL_TAIL = Tail(start=float(-np.log(0.02)), rate=0.02, shape=0.0, scale=1.0)


def exponential(n: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).exponential(size=n).astype(np.float32)


@cache
def calibration_of(n: int, *, tail: Tail | None = EXPONENTIAL_TAIL) -> Calibration:
    return Calibration(np.sort(exponential(n, 1)), tail)


def decided(calibration: Calibration, raw_score: NDArray[np.float32], seed: int = 2, **settings: Any) -> Decision:
    p_value = calibration.p_values(raw_score, np.random.default_rng(seed).random(len(raw_score)))
    return decide(
        Settings.model_validate(settings), calibration, raw_score=raw_score, p_value=p_value, score=score_of(p_value)
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rate", [0.05, 1e-2, 1e-3])
def test_each_method_flags_its_share_of_normal_records(method: str, rate: float) -> None:
    found = decided(calibration_of(200_000), exponential(500_000, 3), threshold_method=method, target_alert_rate=rate)
    assert 0.8 * rate <= found.flagged.mean() <= 1.25 * rate


@pytest.mark.parametrize("method", [*METHODS, None])
@pytest.mark.parametrize("rate", [0.3, 1e-2, 1e-3, 1e-5])
def test_a_flagged_record_has_at_least_the_score_that_is_called_the_threshold(method: str | None, rate: float) -> None:
    calibration = calibration_of(5_000)
    raw_score = np.concatenate([calibration.scores, exponential(20_000, 4), np.float32([np.inf, np.nan])])
    p_value = calibration.p_values(raw_score, np.random.default_rng(5).random(len(raw_score)))
    settings = Settings.model_validate({"threshold_method": method, "target_alert_rate": rate})
    found = decide(settings, calibration, raw_score=raw_score, p_value=p_value, score=score_of(p_value))
    assert found.threshold == decision_threshold(settings, calibration)
    assert found.flagged[-2:].all()
    assert score_of(p_value[found.flagged]).min() >= found.threshold
    assert raw_score[found.flagged][:-1].min() >= raw_score[~found.flagged].max() or method in ("conformal", None)


def test_the_tail_decides_where_the_calibration_rows_are_too_few() -> None:
    calibration, fresh = calibration_of(2_000), exponential(2_000_000, 6)
    for method in ("pot", "conformal"):
        rate = decided(calibration, fresh, threshold_method=method, target_alert_rate=1e-4).flagged.mean()
        assert 0.9e-4 <= rate <= 1.1e-4
    # The quantile can be no higher than the largest of them.
    flagged = decided(calibration, fresh, threshold_method="quantile", target_alert_rate=1e-4).flagged
    assert (flagged == (fresh >= calibration.scores[-1])).all()


@pytest.mark.parametrize(
    ("settings", "least_rows"),
    [
        ({"target_alert_rate": 1e-3}, 999),
        ({"target_alert_rate": 0.01, "threshold_method": "conformal"}, 99),
        ({"threshold": 60.0}, 3_981),
        ({"false_discovery_rate": 0.05}, 19),
    ],
)
def test_without_a_tail_nothing_is_flagged_below_one_over_the_calibration_rows_and_one(
    settings: dict[str, Any], least_rows: int
) -> None:
    extreme = np.float32([1e30])
    for n in (least_rows - 1, least_rows):
        calibration = calibration_of(n, tail=None)
        assert can_flag(Settings.model_validate(settings), calibration) == (n == least_rows)
        assert decided(calibration, extreme, **settings).flagged.all() == (n == least_rows)


def test_a_tail_or_a_cut_on_the_raw_score_can_flag_after_any_number_of_rows() -> None:
    assert can_flag(Settings.model_validate({}), calibration_of(50))
    for method in ("quantile", "pot"):
        assert can_flag(Settings.model_validate({"threshold_method": method}), calibration_of(20, tail=None))


@pytest.mark.parametrize(
    ("settings", "rows_needed", "change"),
    [
        ({"target_alert_rate": 0.001}, "1,000 rows", "raise target_alert_rate"),
        ({"threshold": 75.0}, "31,623 rows", "lower threshold"),
        ({"false_discovery_rate": 0.002}, "500 rows", "raise false_discovery_rate"),
    ],
)
def test_who_can_flag_nothing_is_told_why_and_what_helps(
    settings: dict[str, Any], rows_needed: str, change: str
) -> None:
    ((name, value),) = settings.items()
    reason = explain_no_flags(Settings.model_validate(settings), calibration_of(90, tail=None))
    assert reason is not None
    assert f"{name} = {value:g} asks for" in reason
    assert "90 calibration rows without a fitted tail give none below 1 / 91" in reason
    assert f'calibrate on at least {rows_needed}, {change}, or decide by threshold_method = "pot"' in reason
    assert explain_no_flags(Settings.model_validate(settings), calibration_of(90)) is None


def test_the_least_target_flags_what_is_rarer_than_one_in_a_million() -> None:
    # Beyond the 98 % quantile the tail gives p = exp(-raw score): 1e-6 is at 13.8.
    found = decided(calibration_of(5_000), np.float32([13.7, 13.9, 30]), target_alert_rate=1e-6)
    assert found.flagged.tolist() == [False, True, True]


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.3])
def test_the_cut_of_peaks_over_threshold_is_that_of_the_paper(shape: float) -> None:
    tail = Tail(start=4.0, rate=0.02, shape=shape, scale=0.5)
    excess = -np.log(1e-3 / 0.02) if shape == 0 else ((1e-3 / 0.02) ** -shape - 1) / shape
    assert tail.quantile(1e-3) == pytest.approx(4.0 + 0.5 * excess)
    if shape >= 0:  # beyond a sample no end is believed in
        assert tail.survival(np.array([tail.quantile(1e-3)]))[0] == pytest.approx(1e-3)


@pytest.mark.parametrize(("n", "target"), [(99, 0.01), (101, 0.01), (1_100, 0.001), (5_001, 0.001)])
def test_the_quantile_flags_no_more_of_rows_like_those_that_calibrate_than_its_target(n: int, target: float) -> None:
    calibration = Calibration(scores=np.arange(n, dtype=np.float32), tail=None)
    settings = Settings.model_validate({"threshold_method": "quantile", "target_alert_rate": target})
    cut = raw_cut(settings, calibration)
    # A new row is as likely to come before the first of the n rows, between any two, or behind the last.
    assert np.sum(calibration.scores >= cut) / (n + 1) <= target + 1e-12


def test_without_a_tail_the_quantile_decides_for_peaks_over_threshold() -> None:
    calibration, fresh = calibration_of(5_000, tail=None), exponential(50_000, 7)
    pot, quantile = (
        decided(calibration, fresh, threshold_method=method, target_alert_rate=0.01) for method in ("pot", "quantile")
    )
    assert (pot.flagged == quantile.flagged).all()
    assert pot.threshold == quantile.threshold


def test_equal_scores_are_split_by_conformal_p_values_and_kept_together_by_the_quantile() -> None:
    calibration = Calibration(np.repeat(np.float32([1, 2]), [900, 100]), None)
    twos = np.full(10_000, 2, np.float32)
    halved = decided(calibration, twos, threshold_method="conformal", target_alert_rate=0.05).flagged.mean()
    assert halved == pytest.approx(0.5, abs=0.03)
    assert decided(calibration, twos, threshold_method="quantile", target_alert_rate=0.05).flagged.all()
    assert not decided(calibration, twos / 2, threshold_method="quantile", target_alert_rate=0.05).flagged.any()


def test_a_fixed_threshold_is_on_the_score_and_says_how_many_records_that_means() -> None:
    calibration, fresh = calibration_of(200_000), exponential(200_000, 8)
    implied, named = (decided(calibration, fresh, threshold=30.0, threshold_method=m) for m in (None, "fixed"))
    assert (implied.flagged == named.flagged).all()
    settings = Settings.model_validate({"threshold": 30.0})
    assert named.threshold == decision_threshold(settings, calibration) == 30.0
    assert named.flagged.mean() == pytest.approx(expected_alert_rate(settings), rel=0.1)


def test_benjamini_and_hochberg_flag_the_four_of_their_own_example() -> None:
    # Section 3.2 of the paper: fifteen tests of a heart study, at 0.05.
    p_value = np.array([0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
                        0.7590, 1.0])  # fmt: skip
    largest = benjamini_hochberg(np.random.default_rng(9).permutation(p_value), 0.05)
    assert largest == pytest.approx(4 * 0.05 / 15)
    assert (p_value <= largest).sum() == 4


def test_no_p_value_is_flagged_where_none_is_small_enough() -> None:
    p_value = np.array([0.03, 0.5, 0.9])
    assert not (p_value <= benjamini_hochberg(p_value, 0.05)).any()
    assert benjamini_hochberg(np.zeros(0), 0.05) == 0.05


def test_of_many_micro_batches_the_false_share_of_the_alerts_is_below_the_false_discovery_rate() -> None:
    rng, calibration = np.random.default_rng(10), calibration_of(200_000)
    shares, found_anomalies = [], 0
    for batch in range(100):
        raw_score = np.concatenate([exponential(950, 100 + batch), 12 + rng.exponential(size=50).astype(np.float32)])
        flagged = decided(calibration, raw_score, seed=batch, false_discovery_rate=0.1).flagged
        shares.append(flagged[:950].sum() / max(1, flagged.sum()))
        found_anomalies += int(flagged[950:].sum())
    assert 0.05 <= np.mean(shares) <= 0.12
    assert found_anomalies > 4_900


def test_with_a_false_discovery_rate_a_record_s_fate_depends_on_its_micro_batch() -> None:
    calibration = calibration_of(200_000)
    doubtful = np.float32([5.5])  # p = 0.004
    normal, alarming = exponential(200, 11).clip(max=3), np.full(100, 12, np.float32)
    alone = decided(calibration, np.concatenate([doubtful, normal]), false_discovery_rate=0.1)
    amid = decided(calibration, np.concatenate([doubtful, normal, alarming]), false_discovery_rate=0.1)
    assert (alone.flagged[0], amid.flagged[0]) == (False, True)
    assert alone.threshold > amid.threshold > threshold_of(0.1)


@pytest.mark.parametrize(
    "settings",
    [{"threshold_method": method, "target_alert_rate": 0.03} for method in METHODS]
    + [{"threshold": 20.0}, {"false_discovery_rate": 0.2}],
)
def test_an_alert_s_score_reaches_the_threshold_that_it_states(machines_bundle: Bundle, settings: Any) -> None:
    pipeline = Pipeline(machines_bundle, Settings.model_validate(settings), Cluster("cluster", "topic"))
    judged = pipeline.judge(batch_of(segment(as_json(readings(400, seed=12, anomalies=40)))))
    alerts = [json.loads(message.value) for message in judged.messages]
    assert judged.n_flagged == len(alerts) > 20
    assert all(alert["score"] >= alert["threshold"] >= round(pipeline.threshold, 2) for alert in alerts)
