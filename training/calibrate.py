"""Fits the calibration on held-out raw scores: the scores themselves and a generalised Pareto tail beyond them."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import genpareto, kstest

from monitor.model.calibration import Calibration, Tail
from monitor.model.preprocess import Preprocessor
from monitor.model.scorer import Scorer

# The tail starts at the first of these beyond which the excesses look like a generalised Pareto sample: the higher it starts, the
# better the theory holds, and the fewer excesses there are to fit. Records of a rare kind often make up a tail of their own.
TAIL_START_QUANTILES = (0.98, 0.99, 0.995, 0.998, 0.999)
# Kolmogorov-Smirnov distance times the root of the number of excesses: by simulation the 95 to 99 % quantile where the fit is right.
LARGEST_DISTANCE = 1.0
LEAST_EXCESSES = 50
MOST_EXCESSES = 20_000
# A heavier fitted tail than this says that the fit, not the data, is extreme.
LARGEST_SHAPE = 0.8
_SCORED_AT_ONCE = 4096


def score_frame(preprocessor: Preprocessor, scorer: Scorer, frame: pl.DataFrame) -> NDArray[np.float32]:
    """Raw scores of many rows, float32 (n,), in bounded memory and with the serving code."""
    parts = [scorer.score(preprocessor.transform(part).X) for part in frame.iter_slices(_SCORED_AT_ONCE)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def fit_calibration(raw_score: NDArray[np.float32]) -> Calibration:
    """Calibration from raw scores of rows that neither training nor preprocessing saw.

    Args:
        raw_score: float32 (n,), n >= 1, finite.
    """
    scores = np.sort(raw_score.astype(np.float32))
    return Calibration(scores=scores, tail=fit_tail(scores))


def fit_tail(scores: NDArray[np.float32]) -> Tail | None:
    """Maximum-likelihood generalised Pareto fit of the excesses over a high quantile.

    The quantile is the lowest whose fit is usable and passes a test (Bader et al. 2018, section 3), or else the highest whose
    fit is usable.

    Args:
        scores: float32 (n,), ascending.

    Returns:
        None when there are fewer than 50 excesses, they do not vary, or every fitted shape exceeds 0.8.
    """
    best: Tail | None = None
    for quantile in TAIL_START_QUANTILES:
        start = float(np.quantile(scores, quantile))
        excesses = scores[scores > start].astype(np.float64) - start
        if len(excesses) < LEAST_EXCESSES or len(np.unique(excesses)) < LEAST_EXCESSES // 2:
            break
        shape, scale, distance = _fit_excesses(excesses)
        if not (np.isfinite([shape, scale]).all() and scale > 0 and shape <= LARGEST_SHAPE):
            continue  # the fit, not the data, is extreme
        best = Tail(start=start, rate=len(excesses) / len(scores), shape=shape, scale=scale)
        if distance <= LARGEST_DISTANCE:
            break
    return best


def _fit_excesses(excesses: NDArray[np.float64]) -> tuple[float, float, float]:
    """Shape and scale, and how far the fit is from the excesses, in the unit of `LARGEST_DISTANCE`."""
    if len(excesses) > MOST_EXCESSES:  # every k-th of the sorted excesses keeps their distribution
        excesses = excesses[:: -(-len(excesses) // MOST_EXCESSES)]
    unit = float(excesses.mean())
    shape, _, scale = genpareto.fit(excesses / unit, floc=0.0)
    distance = kstest(excesses / unit, genpareto(shape, 0.0, scale).cdf).statistic * np.sqrt(len(excesses))
    return float(shape), float(scale) * unit, float(distance)
