"""What any detector has to be better than: one feature, a linear PCA, an Isolation Forest, the nearest neighbours.

Each takes X_train float32 (n, d), rows that are taken as normal, and X_test float32 (m, d), both transformed, and gives
scores float64 (m,), higher = more anomalous. None sees a label but the best feature, which is chosen on those of the test
rows and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from training.sampling import distinct_rows

Matrix = NDArray[np.float32]
Score = NDArray[np.floating]
Labels = NDArray[np.int64]
# How well a score tells the classes apart: (y, score) -> higher is better.
Quality = Callable[[Labels, Score], float]

BEST_FEATURE = "best feature (chosen on test labels)"
PCA_RESIDUAL = "PCA residual"
ISOLATION_FOREST = "Isolation Forest"
# What they are called in the figures.
BASELINE_KEYS = ("feature", "pca", "iforest", "knn")
_ROWS_AT_ONCE = 20_000


def score_baselines(
    X_train: Matrix,
    X_test: Matrix,
    y_test: Labels,
    *,
    neighbours: int = 5,
    quality: Quality = roc_auc_score,
    seed: int = 0,
) -> Mapping[str, Score]:
    """Scores of all of them, by name, in the order of `BASELINE_KEYS`.

    Args:
        X_train: float32 (n, d).
        X_test: float32 (m, d).
        y_test: int64 (m,), 1 = anomaly; only for the best feature.
        neighbours: k of k-NN.
        quality: by which the best feature is chosen.
        seed: of the Isolation Forest, the only one that draws.
    """
    return {
        BEST_FEATURE: best_feature(X_test, y_test, quality),
        PCA_RESIDUAL: pca_residual(X_train, X_test),
        ISOLATION_FOREST: isolation_forest(X_train, X_test, seed),
        f"{neighbours}-NN": neighbour_distance(X_train, X_test, neighbours),
    }


def best_feature(X_test: Matrix, y_test: Labels, quality: Quality = roc_auc_score) -> Score:
    """The column of X, or minus that column, which by itself does best on the test rows."""
    columns = (sign * X_test[:, j] for j in range(X_test.shape[1]) for sign in (1, -1))
    return max(columns, key=lambda column: quality(y_test, column))


def pca_residual(X_train: Matrix, X_test: Matrix, variance: float = 0.99) -> Score:
    """Squared distance from the hyperplane that holds that share of the variance."""
    pca = PCA(variance, svd_solver="full").fit(X_train.astype(np.float64))
    return np.square(X_test - pca.inverse_transform(pca.transform(X_test.astype(np.float64)))).sum(axis=1)


def isolation_forest(X_train: Matrix, X_test: Matrix, seed: int = 0) -> Score:
    """With the 100 trees of its paper."""
    return -IsolationForest(n_estimators=100, random_state=seed).fit(X_train).score_samples(X_test)


def neighbour_distance(X_train: Matrix, X_test: Matrix, neighbours: int = 5) -> Score:
    """Distance to the k-th nearest distinct training row."""
    return neighbour_distances(X_train, X_test, neighbours)[:, -1]


def neighbour_distances(X_train: Matrix, X_test: Matrix, neighbours: int) -> Score:
    """Distances to the k nearest distinct training rows, float64 (m, k), rising.

    Copies are looked up once: in logs most rows are.
    """
    known = X_train[distinct_rows(X_train)[0]]
    search = NearestNeighbors(n_neighbors=min(neighbours, len(known))).fit(known)
    asked, copy_of = np.unique(X_test, axis=0, return_inverse=True)
    parts = np.array_split(asked, -(-len(asked) // _ROWS_AT_ONCE))
    return np.concatenate([search.kneighbors(part)[0] for part in parts])[copy_of.ravel()]
