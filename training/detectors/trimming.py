"""Leaves out the training rows with the sparsest surroundings, which is where contamination is unless it is a crowd of its own.

A detector's own scores cannot say which rows those are: it has learned to find them normal. Nor can the distance to the
few nearest rows, where anomalies come in groups. So it is the distance to the k-th nearest row (Ramaswamy, Rastogi and
Shim, SIGMOD 2000), with k as large as the contamination itself may be: no group of it is then its own surroundings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

# Random rows stand for all: the distance to the k-th of n is about that to the (k · m / n)-th of m.
_SAMPLE = 2_000
# Standard deviations by which a sample may hold more of a group than its share.
_MARGIN = 3
_ROWS_AT_ONCE = 4_096


def trim(X: NDArray[np.float32], share: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """The rows that stay, in their order: all but `share`, those farthest from their `share · n`-th nearest row.

    Args:
        X: float32 (n, d); copies of a row are neighbours of it.
        share: 0 keeps every row; below 0.5.
        rng: draws the sample.
    """
    n_trimmed = int(share * len(X))
    if not n_trimmed:
        return X
    sample = X[rng.permutation(len(X))[:_SAMPLE]]
    expected = share * len(sample)
    others = int(expected + _MARGIN * np.sqrt(expected))
    k = min(len(sample), 1 + others)  # a row of the sample is the nearest to itself
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(sample)
    with threadpool_limits(1):  # several threads add up in any order
        distance = np.concatenate(
            [search.kneighbors(part)[0][:, -1] for part in np.array_split(X, -(-len(X) // _ROWS_AT_ONCE))]
        )
    return X[np.sort(np.argsort(distance, kind="stable")[: len(X) - n_trimmed])]
