"""Fitting the calibration: the tail is that of the data, or none where a fit would be a guess."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import genpareto

from monitor.model.calibration import Calibration
from monitor.model.decision import raw_cut
from monitor.settings import Settings
from training.calibrate import LEAST_EXCESSES, TAIL_START_QUANTILES, fit_calibration, fit_tail


def rng(seed: int = 4) -> np.random.Generator:
    return np.random.default_rng(seed)


def sorted_sample(shape: float, n: int, *, scale: float = 1.0, seed: int = 4) -> np.ndarray:
    """n sorted float32 draws from a generalised Pareto distribution."""
    draws = genpareto.rvs(shape, scale=scale, size=n, random_state=rng(seed))
    return np.sort(draws.astype(np.float32))


def test_the_scores_are_kept_sorted_in_float32() -> None:
    raw_score = rng().normal(size=500).astype(np.float32)
    calibration = fit_calibration(raw_score)
    np.testing.assert_array_equal(calibration.scores, np.sort(raw_score))
    assert calibration.scores.dtype == np.float32


@pytest.mark.parametrize("shape", [0.0, 0.2, 0.5])
def test_the_shape_of_a_generalised_pareto_tail_is_found(shape: float) -> None:
    tail = fit_tail(sorted_sample(shape, 200_000, scale=3.0))
    assert tail is not None
    assert tail.shape == pytest.approx(shape, abs=0.06)
    assert tail.rate == pytest.approx(1 - TAIL_START_QUANTILES[0], rel=0.01)
    assert tail.start == pytest.approx(genpareto.ppf(TAIL_START_QUANTILES[0], shape, scale=3.0), rel=0.02)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_the_unit_of_the_scores_does_not_matter(unit: float) -> None:
    one, other = fit_tail(sorted_sample(0.2, 20_000)), fit_tail(sorted_sample(0.2, 20_000) * np.float32(unit))
    assert one is not None
    assert other is not None
    assert other.shape == pytest.approx(one.shape, abs=0.01)
    assert other.scale == pytest.approx(one.scale * unit, rel=0.02)


@pytest.mark.parametrize(("rate", "factor"), [(1e-4, 2), (1e-5, 4)])
def test_rates_below_the_resolution_of_the_calibration_rows_are_met_within_a_small_factor(
    rate: float, factor: float
) -> None:
    calibration = fit_calibration(rng().lognormal(0, 0.4, 20_000).astype(np.float32))
    fresh = rng(5).lognormal(0, 0.4, 2_000_000).astype(np.float32)
    high = fresh[fresh > calibration.scores[-200]]
    flagged = int((calibration.p_values(high, np.full(len(high), 0.5)) <= rate).sum())
    assert rate / factor <= flagged / len(fresh) <= factor * rate


def test_p_values_beyond_the_calibration_rows_follow_the_true_distribution() -> None:
    calibration = fit_calibration(rng().exponential(2.0, 50_000).astype(np.float32))
    for quantile in (1e-5, 1e-6):
        score = np.array([-2.0 * np.log(quantile)], dtype=np.float32)
        found = float(calibration.p_values(score, np.array([0.5]))[0])
        assert quantile / 4 <= found <= 4 * quantile


@pytest.mark.parametrize(
    "scores",
    [
        rng().exponential(size=LEAST_EXCESSES * 50 - 100),  # fewer than 50 beyond the 98 % quantile
        rng().choice([0.0, 1.0, 2.0], 100_000),  # a tail of few values
        np.zeros(100_000),
        np.ones(1),
        np.arange(10),
        rng().pareto(0.7, 100_000),  # so heavy that it has no mean
    ],
)
def test_there_is_no_tail_where_a_fit_would_be_a_guess(scores: np.ndarray) -> None:
    calibration = fit_calibration(scores.astype(np.float32))
    assert calibration.tail is None
    largest = np.array([scores.max() + 1e6], dtype=np.float32)
    assert calibration.p_values(largest, np.array([0.5]))[0] == 1 / (len(scores) + 1)


def test_a_rare_kind_of_records_does_not_take_away_the_tail_of_the_others() -> None:
    scores = rng(0).gamma(4, 1, 20_000)
    rare = rng(1).random(20_000) < 0.004  # beyond the 99.5 % quantile they are most, and too heavy to be fitted
    scores[rare] = rng(2).lognormal(3, 0.8, int(rare.sum()))
    calibration = fit_calibration(scores.astype(np.float32))
    assert calibration.tail is not None
    assert calibration.p_values(np.array([1e6], np.float32), np.array([0.5]))[0] < 1e-5 < 1 / 20_001


def test_p_values_beyond_a_bounded_sample_are_exponential_since_a_sample_knows_no_bound() -> None:
    scores = np.sort(rng().uniform(0, 1, 50_000).astype(np.float32))
    tail = fit_tail(scores)
    assert tail is not None
    assert tail.shape < 0
    mean_excess = float((scores[scores > tail.start] - tail.start).mean())
    beyond = tail.start + np.array([1.0, 5.0]) * mean_excess
    np.testing.assert_allclose(tail.survival(beyond), tail.rate * np.exp([-1, -5]), rtol=0.1)


@pytest.mark.parametrize("shape", [-0.3, -0.1, 0.2])
def test_peaks_over_threshold_flag_their_target_whatever_the_tail(shape: float) -> None:
    fresh, calibration = sorted_sample(shape, 1_000_000, seed=5), fit_calibration(sorted_sample(shape, 100_000))
    for target in (1e-2, 1e-3):
        settings = Settings.model_validate({"threshold_method": "pot", "target_alert_rate": target})
        cut = raw_cut(settings, calibration)
        assert np.mean(fresh >= cut) == pytest.approx(target, rel=0.2)


def test_the_tail_of_a_rare_kind_of_records_starts_where_that_kind_does() -> None:
    # Two in a hundred are of another kind, as where a value was missing; the others end at about 5.
    common, rare = rng().exponential(0.5, 196_000), 3 + rng(5).exponential(1.0, 4_000)
    fresh = np.concatenate([rng(6).exponential(0.5, 980_000), 3 + rng(7).exponential(1.0, 20_000)])
    tail = fit_tail(np.sort(np.concatenate([common, rare]).astype(np.float32)))
    assert tail is not None
    assert tail.start > 3
    for rate in (1e-3, 1e-4):
        assert 0.7 * rate <= np.mean(fresh >= tail.quantile(rate)) <= 1.4 * rate


def test_a_fitted_calibration_can_be_written_and_read() -> None:
    calibration = fit_calibration(rng().exponential(size=20_000).astype(np.float32))
    again = Calibration.from_npz(calibration.to_npz())
    assert again.tail == calibration.tail
    assert (again.scores == calibration.scores).all()
