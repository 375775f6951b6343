"""Trimming: which rows are left out, alone and in groups, and that the others stay as they are."""

from __future__ import annotations

import numpy as np
import pytest

from training.detectors.trimming import trim

pytestmark = pytest.mark.training

SHARE = 0.1


def rows_and(foreign: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Normal rows around the origin, then the foreign ones: float32 (n, k)."""
    normal = rng.standard_normal((n - len(foreign), foreign.shape[1]))
    return np.concatenate([normal, foreign]).astype(np.float32)


@pytest.mark.parametrize("n", [50, 1000, 20_000])
def test_rows_far_from_all_others_are_left_out(n: int) -> None:
    rng = np.random.default_rng(0)
    X = rows_and(10 + 5 * rng.standard_normal((n // 10, 4)), n, rng)
    assert np.array_equal(trim(X, SHARE, rng), X[: n - n // 10])


def test_a_dense_group_that_is_no_larger_than_the_share_is_left_out() -> None:
    rng = np.random.default_rng(0)
    X = rows_and(np.full((1000, 4), 10.0) + 1e-3 * rng.standard_normal((1000, 4)), 10_000, rng)
    assert len(trim(X, SHARE, rng)) == 9000
    assert trim(X, SHARE, rng).max() < 9


def test_copies_of_a_row_are_its_surroundings() -> None:
    rng = np.random.default_rng(0)
    X = rows_and(np.full((3000, 4), 10.0), 10_000, rng)
    assert (trim(X, SHARE, rng) == 10.0).all(axis=1).sum() == 3000


def test_the_same_generator_leaves_out_the_same_rows() -> None:
    X = np.random.default_rng(0).standard_normal((5000, 3)).astype(np.float32)
    first, second = (trim(X, SHARE, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(("n", "share"), [(1000, 0.0), (5, SHARE), (1, 0.49)])
def test_less_than_a_row_leaves_everything(n: int, share: float) -> None:
    X = np.zeros((n, 2), np.float32)
    assert trim(X, share, np.random.default_rng(0)) is X
