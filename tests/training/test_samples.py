"""Generated rows on the way of a training: when they are taken, and what of them is kept."""

from __future__ import annotations

from itertools import count

import numpy as np

from training.samples import ROWS, Sample, SampleTaker, pack_samples, unpack_samples


def taken_at(steps: int, looks: list[int]) -> list[int]:
    numbers = count()
    taker = SampleTaker(lambda: np.full((20, 3), next(numbers), np.float32), steps)
    for step in looks:
        taker.look(step)
    assert [float(sample.rows[0, 0]) for sample in taker.taken] == list(range(len(taker.taken)))
    assert all(sample.rows.shape == (ROWS, 3) for sample in taker.taken)
    return [sample.step for sample in taker.taken]


def test_samples_are_taken_at_the_start_at_the_end_and_evenly_between() -> None:
    assert taken_at(1000, list(range(50, 1001, 50))) == [50, 200, 400, 600, 800, 1000]


def test_a_short_training_or_one_that_stops_early_has_fewer_samples() -> None:
    assert taken_at(60, [50, 60]) == [50, 60]
    assert taken_at(1000, list(range(50, 451, 50))) == [50, 200, 400]


def test_samples_are_kept_within_the_range_of_the_last_one() -> None:
    early = np.array([[-100.0, 0.0], [1.0, 100.0]], np.float32)
    last = np.array([[-1.0, 0.0], [0.5, 1.0]], np.float32)
    packed = pack_samples([Sample(50, early), Sample(100, last)])
    assert packed["step"] == [50, 100]
    shown = unpack_samples(packed)
    np.testing.assert_allclose(shown, [[[0, 0.5], [1, 1]], [[0, 0.5], [0.75, 1]]], atol=1 / 255)


def test_samples_without_any_difference_can_be_kept() -> None:
    packed = pack_samples([Sample(50, np.zeros((1, 2), np.float32))])
    np.testing.assert_array_equal(unpack_samples(packed), np.zeros((1, 1, 2)))
