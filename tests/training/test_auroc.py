"""Areas under the ROC curve and the spread of their difference, against scikit-learn and against drawing again."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.auroc import compare_auroc


def draw(rng: np.random.Generator, n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that two models see alike, the second one a little worse."""
    labels = np.arange(2 * n) >= n
    seen = rng.normal(size=2 * n) + 1.5 * labels
    return labels, seen, seen + rng.normal(size=2 * n)


def test_areas_equal_those_of_scikit_learn_ties_included() -> None:
    labels, first, second = draw(np.random.default_rng(0))
    first, second = np.round(first), np.round(second, 1)
    pair = compare_auroc(labels, first, second)
    assert pair.first == pytest.approx(roc_auc_score(labels, first), abs=1e-12)
    assert pair.second == pytest.approx(roc_auc_score(labels, second), abs=1e-12)


def test_the_spread_of_the_difference_is_that_of_drawing_again_and_again() -> None:
    rng = np.random.default_rng(1)
    pairs = [compare_auroc(*draw(rng)) for _ in range(600)]
    drawn = np.std([pair.first - pair.second for pair in pairs])
    assert np.mean([pair.difference_sd for pair in pairs]) == pytest.approx(drawn, rel=0.12)


def test_a_model_does_not_differ_from_itself() -> None:
    labels, first, _ = draw(np.random.default_rng(2))
    pair = compare_auroc(labels, first, first)
    assert (pair.first - pair.second, pair.difference_sd) == (0.0, 0.0)


def test_infinite_scores_rank_highest() -> None:
    labels = np.array([False, False, True, True])
    pair = compare_auroc(labels, np.array([0.0, 1.0, np.inf, 2.0]), np.array([np.inf, 1.0, 2.0, 3.0]))
    assert (pair.first, pair.second) == (1.0, 0.5)
