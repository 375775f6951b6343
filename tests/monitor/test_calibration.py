"""p-values mean what they say: uniform on exchangeable rows, monotone, continuous in the tail, the same on every delivery."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare, kstest

from monitor.model.bundle import Bundle
from monitor.model.calibration import (
    Calibration,
    Tail,
    p_value_of,
    score_of,
    threshold_of,
    tie_breakers,
)

SCORES = np.array([1, 2, 2, 2, 5, 7, 7, 9, 9], dtype=np.float32)
TAIL = Tail(start=7.0, rate=2 / 9, shape=0.2, scale=3.0)
FIVE = Calibration(SCORES, tail=None)
WITH_TAIL = Calibration(SCORES, TAIL)


def p(calibration: Calibration, raw_score: float, u: float) -> float:
    return float(calibration.p_values(np.array([raw_score], dtype=np.float32), np.array([u]))[0])


def uniform_p_values(draw: str, n_calibration: int, n_rows: int) -> NDArray[np.float64]:
    """p-values of fresh rows of one distribution, against calibration rows of the same one."""
    rng = np.random.default_rng(7)
    everything = {
        "continuous": rng.lognormal(0, 1, n_calibration + n_rows),
        "a hundred values": rng.integers(0, 100, n_calibration + n_rows),
        "three values": rng.choice([0.0, 0.5, 3.0], n_calibration + n_rows, p=[0.7, 0.29, 0.01]),
        "one value": np.zeros(n_calibration + n_rows),
        "87 % copies": np.where(
            rng.random(n_calibration + n_rows) < 0.87, 1.5, rng.exponential(1, n_calibration + n_rows)
        ),
    }[draw].astype(np.float32)
    calibration = Calibration(np.sort(everything[:n_calibration]), tail=None)
    breakers = tie_breakers("ab" * 32, "features", 0, np.arange(n_rows, dtype=np.int64))
    return calibration.p_values(everything[n_calibration:], breakers)


@pytest.mark.parametrize(
    ("raw_score", "u", "expected"),
    [(0, 0.0, 0.9), (0, 0.5, 0.95), (1, 0.0, 0.8), (2, 0.5, 0.7), (3, 0.5, 0.55), (5, 0.0, 0.4), (9, 0.0, 0.1), (9, 0.5, 0.15)],
)  # fmt: skip
def test_p_is_the_share_above_plus_a_random_part_of_the_equal_ones(raw_score: float, u: float, expected: float) -> None:
    assert p(FIVE, raw_score, u) == pytest.approx(expected)


@pytest.mark.parametrize("draw", ["continuous", "a hundred values", "three values", "one value", "87 % copies"])
def test_p_values_of_exchangeable_rows_are_uniform_however_many_are_tied(draw: str) -> None:
    found = uniform_p_values(draw, n_calibration=500_000, n_rows=5_000)
    assert kstest(found, "uniform").pvalue > 1e-3
    assert chisquare(np.histogram(found, bins=20, range=(0, 1))[0]).pvalue > 1e-3


@pytest.mark.parametrize("rate", [1e-2, 1e-3])
@pytest.mark.parametrize("draw", ["continuous", "three values", "87 % copies"])
def test_the_realised_alert_rate_is_the_target(draw: str, rate: float) -> None:
    score = score_of(uniform_p_values(draw, n_calibration=500_000, n_rows=500_000))
    assert 0.8 <= float((score >= threshold_of(rate)).mean()) / rate <= 1.25


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=30), st.floats(0, 1, exclude_max=True))
def test_a_higher_raw_score_never_has_a_higher_p_value(raw_scores: list[float], u: float) -> None:
    ascending = np.sort(np.array(raw_scores, dtype=np.float32))
    for calibration in (FIVE, WITH_TAIL):
        found = calibration.p_values(ascending, np.full(len(ascending), u))
        assert (np.diff(found) <= 0).all()
        assert ((found >= 1e-12) & (found <= 1)).all()


def test_a_higher_raw_score_has_a_lower_p_value_across_the_whole_range_for_one_tie_breaker() -> None:
    grid = np.linspace(0, 40, 4001, dtype=np.float32)
    for u in (0.0, 0.01, 0.5, 0.999):
        assert (np.diff(WITH_TAIL.p_values(grid, np.full(len(grid), u))) <= 0).all()


def test_beyond_the_calibration_scores_the_tail_formula_holds_and_never_exceeds_one_in_n_plus_one() -> None:
    beyond = np.linspace(9.001, 60, 500).astype(np.float32)
    found = WITH_TAIL.p_values(beyond, np.full(500, 0.5))
    formula = 2 / 9 * (1 + 0.2 * (beyond.astype(np.float64) - 7) / 3) ** (-1 / 0.2)
    np.testing.assert_allclose(found, np.minimum(formula, 1 / 10), rtol=1e-12)
    assert found[0] <= 1 / 10


def test_a_score_that_equals_the_largest_is_never_rarer_than_one_beyond_it() -> None:
    assert p(WITH_TAIL, 9, 0.0) == p(FIVE, 9, 0.0) == 1 / 10
    assert p(WITH_TAIL, 9.0001, 0.999) <= 1 / 10


def test_the_tail_is_continuous() -> None:
    grid = np.arange(9.001, 30, 0.01).astype(np.float32)
    found = WITH_TAIL.p_values(grid, np.zeros(len(grid)))
    assert np.abs(np.diff(np.log(found))).max() < 0.01


def test_without_a_tail_p_values_end_at_one_in_n_plus_one() -> None:
    assert p(FIVE, 9.5, 0.3) == 1 / 10
    assert p(FIVE, 1e30, 0.9) == 1 / 10


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.3])
@pytest.mark.parametrize("raw_score", [np.inf, np.nan])
def test_an_overflow_of_the_network_counts_as_infinitely_anomalous(raw_score: float, shape: float) -> None:
    assert p(Calibration(SCORES, Tail(start=7.0, rate=2 / 9, shape=shape, scale=3.0)), raw_score, 0.9) == 1e-12
    assert p(FIVE, raw_score, 0.9) == 1 / 10


def test_a_tail_of_shape_nought_is_exponential() -> None:
    tail = Tail(start=1.0, rate=0.1, shape=0.0, scale=2.0)
    np.testing.assert_allclose(tail.survival(np.array([1.0, 3.0, 5.0])), 0.1 * np.exp([0, -1, -2]))
    nearly = Tail(start=1.0, rate=0.1, shape=1e-7, scale=2.0)
    np.testing.assert_allclose(nearly.survival(np.array([1.0, 3.0, 5.0])), 0.1 * np.exp([0, -1, -2]), rtol=1e-5)


def test_p_values_believe_in_no_end_of_the_scores() -> None:
    tail = Tail(start=7.0, rate=2 / 9, shape=-0.5, scale=3.0)  # ends at 13; its mean excess is 2
    bounded = Calibration(SCORES, tail)
    found = bounded.p_values(np.array([13, 20, 1e30], dtype=np.float32), np.zeros(3))
    np.testing.assert_allclose(found, [2 / 9 * np.exp(-3), 2 / 9 * np.exp(-6.5), 1e-12])
    assert score_of(found)[2] == 100.0


@pytest.mark.parametrize(
    ("p_value", "score"), [(1.0, 0.0), (0.1, 100 / 6), (1e-3, 50.0), (1e-6, 100.0), (1e-9, 100.0), (1e-12, 100.0)]
)
def test_the_score_is_a_sixth_of_a_hundred_for_each_factor_of_ten(p_value: float, score: float) -> None:
    found = score_of(np.array([p_value]))[0]
    assert found == pytest.approx(score)
    assert not np.signbit(found)


@settings(max_examples=100)
@given(st.floats(1e-6, 1))
def test_threshold_and_p_value_are_inverse_to_each_other(rate: float) -> None:
    assert p_value_of(threshold_of(rate)) == pytest.approx(rate, rel=1e-12)


def test_a_row_whose_p_value_is_the_target_rate_is_flagged() -> None:
    for rate in (0.5, 1e-2, 1e-3, 1e-4, 3e-5):
        assert score_of(np.array([rate]))[0] >= threshold_of(rate)


OFFSETS = np.arange(100_000, dtype=np.int64)


def test_tie_breakers_are_uniform_and_in_the_half_open_unit_interval() -> None:
    for offsets in (OFFSETS, OFFSETS * 4096, OFFSETS + 2**62):
        found = tie_breakers("cd" * 32, "features", 3, offsets)
        assert found.dtype == np.float64
        assert found.min() >= 0
        assert found.max() < 1
        assert kstest(found, "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.02


def test_a_tie_breaker_depends_on_nothing_but_model_topic_partition_and_offset() -> None:
    whole = tie_breakers("cd" * 32, "features", 3, OFFSETS)
    again = tie_breakers("cd" * 32, "features", 3, OFFSETS[777:778])
    assert again[0] == whole[777]


def splitmix64(seed: int, n: int) -> float:
    """Output n of SplitMix64 in whole numbers, as a float64 in [0, 1)."""
    z = (seed + n * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return float((z ^ z >> 31) >> 11) / 2**53


@pytest.mark.parametrize("offset", [0, 1, 4096, 2**40, 2**63 - 1])
def test_tie_breakers_are_splitmix64_seeded_by_model_topic_and_partition(offset: int) -> None:
    seed = int.from_bytes(hashlib.sha256(b"abc\x00features\x007").digest()[:8], "little")
    assert tie_breakers("abc", "features", 7, np.array([offset])).tolist() == [splitmix64(seed, offset)]


@pytest.mark.parametrize(
    ("sha256", "topic", "partition"),
    [("ce" * 32, "features", 3), ("cd" * 32, "feature", 3), ("cd" * 32, "features", 4)],
)
def test_another_model_topic_or_partition_gives_unrelated_tie_breakers(sha256: str, topic: str, partition: int) -> None:
    one = tie_breakers("cd" * 32, "features", 3, OFFSETS)
    other = tie_breakers(sha256, topic, partition, OFFSETS)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.02
    assert not (one == other).any()


def test_a_row_s_p_value_does_not_depend_on_its_neighbours(machines_bundle: Bundle) -> None:
    calibration = machines_bundle.calibration
    rng = np.random.default_rng(2)
    raw_score = rng.choice(np.concatenate([calibration.scores, calibration.scores * 3]), 64)
    breakers = rng.random(64)
    whole = calibration.p_values(raw_score, breakers)
    assert [p(calibration, raw_score[row], breakers[row]) for row in range(64)] == whole.tolist()


def test_npz_keeps_scores_and_tail() -> None:
    for calibration in (FIVE, WITH_TAIL):
        found = Calibration.from_npz(calibration.to_npz())
        assert found.scores.tobytes() == calibration.scores.tobytes()
        assert found.tail == calibration.tail


@pytest.mark.parametrize(
    ("scores", "tail", "problem"),
    [
        (np.zeros(0, np.float32), [], "n > 0"),
        (np.zeros(3, np.float64), [], "float32"),
        (np.zeros((3, 1), np.float32), [], "float32"),
        (np.array([2, 1], np.float32), [], "ascending"),
        (np.array([1, np.nan], np.float32), [], "finite"),
        (np.array([1, np.inf], np.float32), [], "finite"),
        (SCORES, [1.0, 2.0], "four finite numbers"),
        (SCORES, [1.0, 2.0, np.nan, 1.0], "four finite numbers"),
        (SCORES, [1.0, 0.1, 0.1, 0.0], "scale"),
        (SCORES, [1.0, 0.1, 0.1, -1.0], "scale"),
        (SCORES, [1.0, 1.5, 0.1, 1.0], "rate"),
        (SCORES, [[1.0, 0.1, 0.1, 1.0]], "tail"),
        (SCORES, 7.0, "tail"),
    ],
)
def test_npz_of_another_form_is_refused(scores: NDArray[np.float32], tail: object, problem: str) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, scores=scores, tail=np.array(tail, dtype=np.float64))
    with pytest.raises(ValueError, match=problem):
        Calibration.from_npz(buffer.getvalue())
