"""The area under the ROC curve of two models on the same rows, and how far chance alone would move their difference.

DeLong, DeLong and Clarke-Pearson (1988), computed by midranks as in Sun and Xu (2014).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


@dataclass(frozen=True)
class AurocPair:
    """Two models on the same rows.

    Attributes:
        first: area of the first one.
        second: of the second one.
        difference_sd: standard deviation of `first - second` over draws of such rows.
    """

    first: float
    second: float
    difference_sd: float


def compare_auroc(labels: NDArray[np.bool_], first: NDArray[np.float32], second: NDArray[np.float32]) -> AurocPair:
    """Compares two models.

    Args:
        labels: bool (n,), true = anomaly; at least two of each kind.
        first: float32 (n,), scores of the first model, higher = more anomalous. Infinite ones rank highest.
        second: of the second one.
    """
    (area, by_anomaly, by_normal), (other, other_by_anomaly, other_by_normal) = (
        _placements(labels, score) for score in (first, second)
    )
    variance = np.var(by_anomaly - other_by_anomaly, ddof=1) / len(by_anomaly)
    variance += np.var(by_normal - other_by_normal, ddof=1) / len(by_normal)
    return AurocPair(area, other, float(np.sqrt(variance)))


def _placements(
    labels: NDArray[np.bool_], score: NDArray[np.float32]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """The area; for each anomaly the share of normal rows below it; for each normal row that of anomalies above it."""
    anomalies, normals = score[labels], score[~labels]
    among_all = rankdata(np.concatenate([anomalies, normals]))
    below = (among_all[: len(anomalies)] - rankdata(anomalies)) / len(normals)
    above = 1.0 - (among_all[len(anomalies) :] - rankdata(normals)) / len(anomalies)
    return float(below.mean()), below, above
