"""The one scoring path: decoded rows in, scores out. The daemon and the offline commands both go through here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.model.attribution import Attribution, attribute
from monitor.model.bundle import Bundle
from monitor.model.calibration import score_of

# Times one stage of the pipeline, named as in `monitor.telemetry.metrics.STAGES`.
StageTimer = Callable[[str], AbstractContextManager[object]]


def untimed(_stage: str) -> AbstractContextManager[None]:
    """The stage timer of callers that do not measure."""
    return nullcontext()


@dataclass(frozen=True)
class Detections:
    """What became of a batch of decoded rows.

    Attributes:
        X: float32 (n_rows, n_columns).
        missing: bool (n_rows, n_features), or None when no value was missing.
        raw_score: float32 (n_rows,), the detector's own scale.
        p_value: float64 (n_rows,), in [1e-12, 1].
        score: float64 (n_rows,), 0 to 100; higher is more anomalous.
    """

    X: NDArray[np.float32]
    missing: NDArray[np.bool_] | None
    raw_score: NDArray[np.float32]
    p_value: NDArray[np.float64]
    score: NDArray[np.float64]


def detect(
    bundle: Bundle, frame: pl.DataFrame, tie_breaker: NDArray[np.float64], stage: StageTimer = untimed
) -> Detections:
    """Transforms and scores rows.

    Args:
        bundle: the model.
        frame: decoded rows, one column a feature.
        tie_breaker: float64 (n_rows,) in [0, 1), from `monitor.model.calibration.tie_breakers`.
        stage: times the stages.
    """
    with stage("transform"):
        transformed = bundle.preprocessor.transform(frame)
    with stage("score"):
        raw_score = bundle.scorer.score(transformed.X)
        p_value = bundle.calibration.p_values(raw_score, tie_breaker)
        score = score_of(p_value)
    return Detections(X=transformed.X, missing=transformed.missing, raw_score=raw_score, p_value=p_value, score=score)


def explain(
    bundle: Bundle, frame: pl.DataFrame, detections: Detections, rows: NDArray[np.intp], top_k: int
) -> list[list[Attribution]]:
    """Attributions of some rows of a batch.

    Args:
        bundle: the model that scored them.
        frame: the whole batch.
        detections: its results.
        rows: intp (k,), positions of the rows to explain.
        top_k: features a row.
    """
    if not len(rows):
        return []
    return attribute(bundle.preprocessor, frame[rows], bundle.scorer.explain(detections.X[rows]), top_k)


def imputed_features(bundle: Bundle, missing: NDArray[np.bool_] | None, row: int) -> list[str]:
    """Names of the features of one row whose value was missing."""
    if missing is None:
        return []
    return [name for name, absent in zip(bundle.schema.feature_names, missing[row], strict=True) if absent]
