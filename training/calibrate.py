"""Fits the calibration on held-out raw scores: the scores themselves and a generalised Pareto tail beyond them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import genpareto

from monitor.model.calibration import Calibration, Tail

# The tail starts here; the classic compromise between bias (too low) and variance (too high).
TAIL_START_QUANTILE = 0.98
LEAST_EXCESSES = 50
MOST_EXCESSES = 20_000
# A heavier fitted tail than this says that the fit, not the data, is extreme.
LARGEST_SHAPE = 0.8


def fit_calibration(raw_score: NDArray[np.float32]) -> Calibration:
    """Calibration from raw scores of rows that neither training nor preprocessing saw.

    Args:
        raw_score: float32 (n,), n >= 1, finite.
    """
    scores = np.sort(raw_score.astype(np.float32))
    return Calibration(scores=scores, tail=fit_tail(scores))


def fit_tail(scores: NDArray[np.float32]) -> Tail | None:
    """Maximum-likelihood generalised Pareto fit of the excesses over the 98 % quantile.

    Args:
        scores: float32 (n,), ascending.

    Returns:
        None when there are fewer than 50 excesses, they do not vary, or the fitted shape exceeds 0.8.
    """
    start = float(np.quantile(scores, TAIL_START_QUANTILE))
    excesses = scores[scores > start].astype(np.float64) - start
    if len(excesses) < LEAST_EXCESSES or len(np.unique(excesses)) < LEAST_EXCESSES // 2:
        return None
    fitted = excesses
    if len(fitted) > MOST_EXCESSES:  # every k-th of the sorted excesses keeps their distribution
        fitted = fitted[:: -(-len(fitted) // MOST_EXCESSES)]
    unit = float(fitted.mean())
    shape, _, scale = genpareto.fit(fitted / unit, floc=0.0)
    if not (np.isfinite([shape, scale]).all() and scale > 0 and shape <= LARGEST_SHAPE):
        return None
    if shape < 0:
        # A bounded tail would call everything beyond its end impossible; a sample cannot know that. The exponential one,
        # whose maximum-likelihood scale is the mean excess, errs towards fewer and lower scores.
        shape, scale = 0.0, 1.0
    return Tail(start=start, rate=len(excesses) / len(scores), shape=float(shape), scale=float(scale) * unit)
