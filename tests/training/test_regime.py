"""Since when the stream is as it is now, from recorded p-values."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from training.regime import find_change

TARGET = 0.02
# Ten flags among half of them.
LEAST = 1000


def recorded(*lengths_and_powers: tuple[int, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times, one a second, and p-values: uniform where the power is 1, lower where it is higher."""
    rng = np.random.default_rng(1)
    p_values = np.concatenate([rng.uniform(size=n) ** power for n, power in lengths_and_powers])
    return np.arange(len(p_values), dtype=np.float64), p_values


def of_one_model(times: NDArray[np.float64]) -> NDArray[np.str_]:
    return np.full(len(times), "v1")


def test_a_stream_that_stays_as_it_is_has_no_change() -> None:
    times, p_values = recorded((100_000, 1.0))
    versions = np.array(["v1", "v2", "v3", "v2"]).repeat(25_000)
    assert find_change(times, p_values, versions, TARGET) is None


@pytest.mark.parametrize("power", [5.0, 0.2])
def test_an_abrupt_change_is_found_to_some_hundred_records(power: float) -> None:
    times, p_values = recorded((6000, 1.0), (1500, power))
    assert find_change(times, p_values, of_one_model(times), TARGET) == pytest.approx(6000, abs=200)


def test_a_change_with_too_few_rows_after_it_is_left_to_the_next_retraining() -> None:
    times, p_values = recorded((6000, 1.0), (LEAST - 200, 5.0))
    assert find_change(times, p_values, of_one_model(times), TARGET) is None
    assert find_change(times, p_values, of_one_model(times), 2 * TARGET) == pytest.approx(6000, abs=200)


def test_of_several_changes_it_is_the_newest_with_rows_enough() -> None:
    times, p_values = recorded((6000, 1.0), (3000, 5.0), (3000, 0.2), (500, 5.0))
    assert find_change(times, p_values, of_one_model(times), TARGET) == pytest.approx(9000, abs=300)


def test_a_change_is_known_though_its_successor_was_calibrated_on_it() -> None:
    times, p_values = recorded((6000, 1.0), (400, 5.0), (1600, 1.0))
    versions = np.array(["v1"] * 6400 + ["v2"] * 1600)
    assert find_change(times, p_values, versions, TARGET) == pytest.approx(6000, abs=200)
