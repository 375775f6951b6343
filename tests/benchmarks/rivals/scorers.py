"""PyOD's ALAD and River's HalfSpaceTrees as scorers: `python -m tests.benchmarks.rivals.scorers FILE`.

FILE is a .npy of X, float32 (n_rows, n_columns). Both learn from its first rows. Then for each line of standard input,
`pyod alad` or `river hst`, a line is printed: the rows per second of CPU of scoring once more. Options as published by their
authors, but few epochs for ALAD, for what it learns does not change its speed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyod.models.alad import ALAD
from river.anomaly import HalfSpaceTrees

LEARNT_ROWS = 4096
ALAD_EPOCHS = 2
ONE_BY_ONE_ROWS = 2000


def make_alad(X: NDArray[np.float32]) -> Callable[[], float]:
    """Scores all rows in one call."""
    detector = ALAD(epochs=ALAD_EPOCHS)
    detector.fit(X[:LEARNT_ROWS])
    return lambda: _rate(lambda: detector.decision_function(X), len(X))


def make_half_space_trees(X: NDArray[np.float32]) -> Callable[[], float]:
    """Scores row after row; the rows are dictionaries of values within [0, 1] already, as the trees want them."""
    low, high = X.min(axis=0), X.max(axis=0)
    scaled = (X - low) / np.where(high > low, high - low, 1.0)
    rows = [dict(enumerate(row)) for row in scaled[:LEARNT_ROWS].tolist()]
    trees = HalfSpaceTrees(seed=0)
    for row in rows:
        trees.learn_one(row)

    def score_all() -> None:
        for row in rows[:ONE_BY_ONE_ROWS]:
            trees.score_one(row)

    return lambda: _rate(score_all, min(ONE_BY_ONE_ROWS, len(rows)))


def _rate(score: Callable[[], Any], n_rows: int) -> float:
    """Rows per second of CPU."""
    started = time.process_time()
    score()
    return n_rows / (time.process_time() - started)


def main(path: str) -> None:
    """Answers until the input ends."""
    torch.set_num_threads(1)
    X = np.load(path)
    scorers = {"pyod alad": make_alad(X), "river hst": make_half_space_trees(X)}
    for line in sys.stdin:
        print(f"rate {scorers[line.strip()]()}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
