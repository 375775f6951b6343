"""The sequential test: quiet on stationary streams, quick on abrupt changes, and blind to where micro-batches end."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitor.drift.sequential import CHUNK_RECORDS, Change, SequentialTest
from monitor.model.calibration import Calibration

TARGET = 0.001
CALIBRATION_ROWS = 3_000
STREAMS = 40
STREAM_RECORDS = 100_000
BEFORE = 10_013  # records before the change, in the middle of a chunk


class World:
    """Normal scores, a calibration on few of them, a steady share of true anomalies."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        scores = np.sort(self.rng.normal(size=CALIBRATION_ROWS)).astype(np.float32)
        self.calibration = Calibration(scores, tail=None)

    def p_values(self, n: int, *, shift: float = 0.0, anomalies: float = 0.01) -> NDArray[np.float64]:
        scores = self.rng.normal(size=n) + shift + 5.0 * (self.rng.random(n) < anomalies)
        return self.calibration.p_values(scores.astype(np.float32), self.rng.random(n))


def changes(test: SequentialTest, *parts: NDArray[np.float64], batch: int = 5_000) -> list[Change]:
    p = np.concatenate(parts)
    return [change for start in range(0, len(p), batch) for change in test.observe(p[start : start + batch])]


def delays(*, seeds: int = 20, before: float = 0.01, **after: float) -> list[int]:
    """Records from the change to the alarm, stream by stream; a false alarm before it fails."""
    found = []
    for seed in range(100, 100 + seeds):
        world = World(seed)
        stream = world.p_values(BEFORE, anomalies=before), world.p_values(10_000, **after)
        first = changes(SequentialTest(TARGET), *stream)[0]
        assert first.at > BEFORE
        found.append(first.at - BEFORE)
    return found


def test_at_most_one_false_alarm_in_a_hundred_thousand_stationary_records() -> None:
    alarms = [
        change
        for seed in range(STREAMS)
        for change in changes(SequentialTest(TARGET), World(seed).p_values(STREAM_RECORDS))
    ]
    print(f"{len(alarms)} false alarms in {STREAMS} streams of {STREAM_RECORDS} records")
    assert len(alarms) <= STREAMS / 5  # far below one a stream


@pytest.mark.parametrize("target", [0.001, 0.01, 0.05])
def test_neighbours_that_resemble_each_other_are_no_drift(target: float) -> None:
    rng = np.random.default_rng(7)
    noise = rng.normal(size=STREAM_RECORDS + 20)
    scores = np.convolve(noise, np.full(20, 20**-0.5), mode="valid")[:STREAM_RECORDS].astype(np.float32)
    calibration = Calibration(np.sort(rng.normal(size=CALIBRATION_ROWS)).astype(np.float32), tail=None)
    p = calibration.p_values(scores, rng.random(STREAM_RECORDS))
    assert len(changes(SequentialTest(target), p)) <= 1


@pytest.mark.parametrize(("shift", "statistic"), [(0.5, "scores_rose"), (1.0, "scores_rose"), (-1.0, "scores_fell")])
def test_moved_scores_are_found_within_five_hundred_records(shift: float, statistic: str) -> None:
    assert max(delays(shift=shift)) <= 500
    world = World(3)
    (change, *_) = changes(SequentialTest(TARGET), world.p_values(BEFORE), world.p_values(1_000, shift=shift))
    assert change.statistic in (statistic, "tail")
    assert abs(change.since - BEFORE) <= 2 * CHUNK_RECORDS


def test_six_times_as_many_anomalies_are_found_within_five_hundred_records_nearly_always() -> None:
    found = delays(anomalies=0.06)
    assert np.mean(np.array(found) <= 500) >= 0.9


def test_a_flag_rate_that_alone_rises_elevenfold_is_found_about_when_five_flags_are_there() -> None:
    assert 300 <= np.median(delays(before=0.0, anomalies=0.01)) <= 800


def test_a_burst_of_anomalies_is_no_drift() -> None:
    world = World(4)
    before, after = world.p_values(BEFORE), world.p_values(20_000)
    burst = np.full(CHUNK_RECORDS, 1e-6)
    assert changes(SequentialTest(TARGET), before, burst, after) == []


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 3_000), min_size=1, max_size=12), st.integers(0, 3))
def test_where_micro_batches_end_changes_nothing(sizes: list[int], seed: int) -> None:
    world = World(seed)
    p = np.concatenate([world.p_values(25_000), world.p_values(2_000, shift=0.7), world.p_values(5_000)])
    whole, cut = SequentialTest(TARGET), SequentialTest(TARGET)
    found, start, turn = [], 0, 0
    while start < len(p):
        found += cut.observe(p[start : start + sizes[turn % len(sizes)]])
        start, turn = start + sizes[turn % len(sizes)], turn + 1
    assert found == whole.observe(p) != []
    assert cut.value == whole.value


def test_a_drift_that_lasts_is_told_once_and_one_that_recurs_again() -> None:
    world = World(5)
    normal = [world.p_values(6_000) for _ in range(3)]
    drifted = [world.p_values(6_000, shift=1.0) for _ in range(2)]
    test = SequentialTest(TARGET)
    found = changes(test, normal[0], drifted[0], normal[1], drifted[1], normal[2])
    assert [change.at // 6_000 for change in found] == [1, 3]
    assert test.value < 1.0


def test_a_drift_that_is_over_leaves_no_trace_in_the_baseline() -> None:
    world = World(9)
    test = SequentialTest(TARGET)
    changes(test, world.p_values(3_000), world.p_values(5_000, shift=1.0), world.p_values(10_000))
    assert test.value < 1.0
    (again, *_) = changes(test, world.p_values(1_000, shift=0.5))
    assert again.at - 18_000 <= 300


def test_the_value_is_one_while_an_alarm_lasts_and_small_before() -> None:
    world = World(6)
    test = SequentialTest(TARGET)
    assert test.value == 0.0
    changes(test, world.p_values(BEFORE))
    assert test.value < 0.7
    changes(test, world.p_values(1_000, shift=1.0))
    assert test.value >= 1.0


def test_of_a_small_change_nothing_is_told_while_the_baseline_is_learned() -> None:
    world = World(8)
    assert changes(SequentialTest(TARGET), world.p_values(1_000), world.p_values(1_000, shift=0.3)) == []


@pytest.mark.parametrize("before", [0, 300, 1_500])
def test_a_great_change_is_told_though_there_is_no_baseline_yet(before: int) -> None:
    for seed in range(20):
        world = World(seed)
        test = SequentialTest(TARGET)
        stream = world.p_values(before, anomalies=0.1), world.p_values(6_000, shift=2.0, anomalies=0.1)
        first, *others = changes(test, *stream, batch=64)
        assert first.statistic == "scores_rose"
        assert before < first.at <= before + 500
        assert len(others) <= 1  # told again where the baseline holds records of before


def test_models_that_are_replaced_before_they_have_a_baseline_raise_no_false_alarms() -> None:
    alarms = [
        change
        for seed in range(500)
        for change in changes(SequentialTest(TARGET), World(seed).p_values(2_000, anomalies=0.1))
    ]
    assert alarms == []


def test_a_batch_without_records_changes_nothing() -> None:
    assert SequentialTest(TARGET).observe(np.zeros(0)) == []


def test_it_costs_less_than_a_microsecond_a_record_even_on_a_busy_machine() -> None:
    p = np.random.default_rng(0).random(5_000)
    test = SequentialTest(TARGET)
    started = time.process_time()
    for _ in range(40):
        test.observe(p)
    cost_us = (time.process_time() - started) / (40 * len(p)) * 1e6
    print(f"{cost_us:.3f} µs a record")
    assert cost_us < 1.0


def test_a_swing_that_comes_back_each_day_is_announced_less_and_less() -> None:
    rng = np.random.default_rng(11)
    day = 4_000
    n = 25 * day
    swing = 1.0 + 0.6 * np.sin(2 * np.pi * np.arange(n) / day)
    p = rng.random(n) ** swing
    test = SequentialTest(0.001)
    found = [change.at for change in test.observe(p)]
    assert len([at for at in found if at <= 5 * day]) <= 8
    assert len([at for at in found if at > 5 * day]) <= 4
    assert test.observe(rng.random(2_000) ** 5.0)  # a change that stays is found all the same
