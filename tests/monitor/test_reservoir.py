"""The reservoir: bounded, uniform, and the same for the same records."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.archive.reservoir import Reservoir, sampling_keys


def sampled(keys: np.ndarray, capacity: int, batches: list[int]) -> tuple[list[int], Reservoir]:
    """Offers rows 0, 1, … in batches; gives those that stayed."""
    reservoir, start = Reservoir(capacity), 0
    for size in batches:
        part = keys[start : start + size]
        wanted = reservoir.wanted(part)
        reservoir.put(pl.DataFrame({"row": wanted + start}), part[wanted])
        start += size
    rows = reservoir.rows()
    return ([] if rows is None else rows.get_column("row").to_list()), reservoir


@given(st.lists(st.integers(0, 60), max_size=30), st.integers(1, 20), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_the_rows_of_the_smallest_keys_stay_in_order_however_they_are_cut(
    batches: list[int], capacity: int, seed: int
) -> None:
    n = sum(batches)
    keys = np.random.default_rng(seed).random(n)
    rows, reservoir = sampled(keys, capacity, batches)
    assert rows == sorted(np.argsort(keys)[:capacity].tolist())
    assert reservoir.seen == n


def test_every_record_of_a_topic_has_the_same_chance() -> None:
    keys = np.concatenate([sampling_keys("features", partition, np.arange(20_000)) for partition in range(3)])
    rows, _ = sampled(keys, 6_000, [4096] * 15)
    assert len(rows) == 6_000
    shares = np.histogram(rows, bins=12, range=(0, 60_000))[0] / 6_000
    assert np.abs(shares - 1 / 12).max() < 0.02


def test_a_record_that_is_delivered_again_has_the_same_key() -> None:
    again = sampling_keys("features", 1, np.array([7, 8]))
    assert sampling_keys("features", 1, np.arange(10))[7:9].tolist() == again.tolist()
    assert sampling_keys("features", 2, np.array([7]))[0] != again[0]


def test_most_rows_of_a_long_stream_are_not_even_built() -> None:
    keys, built = np.random.default_rng(0).random(1_000_000), 0
    reservoir = Reservoir(500)
    for start in range(0, len(keys), 4096):
        part = keys[start : start + 4096]
        wanted = reservoir.wanted(part)
        built += len(wanted)
        reservoir.put(pl.DataFrame({"row": wanted}), part[wanted])
    assert built < 25_000
    rows = reservoir.rows()
    assert rows is not None
    assert rows.height == 500


@pytest.mark.parametrize("capacity", [0, 1])
def test_the_smallest_reservoir_holds_one_row(capacity: int) -> None:
    rows, _ = sampled(np.array([0.5, 0.1, 0.9]), capacity, [1, 1, 1])
    assert rows == [1]


def test_an_empty_reservoir_holds_nothing() -> None:
    assert Reservoir(5).rows() is None
