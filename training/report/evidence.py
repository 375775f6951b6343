"""What the report shows of a model's scores, measured with the serving code on rows that it did not learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.model.attribution import Attribution
from monitor.model.bundle import Bundle
from monitor.model.calibration import score_of, tie_breakers
from monitor.model.detection import Detections, detect, explain
from training.calibrate import fit_calibration
from training.report.pictures import Pictures, take_pictures
from training.split import Split

if TYPE_CHECKING:
    from training.gate import Trial
    from training.history import History

# Of more rows of one kind every k-th is taken.
MOST_ROWS = 100_000
EXAMPLES = 8
_EXPLAINED_ROWS = 5_000
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Example:
    """A row that scored high.

    Attributes:
        score: 0 to 100.
        p_value: in [1e-12, 1].
        raw_score: on the detector's own scale.
        attribution: the features that made it score high, largest share first.
    """

    score: float
    p_value: float
    raw_score: float
    attribution: list[Attribution]


@dataclass(frozen=True)
class Group:
    """Rows of one kind.

    Attributes:
        name: of the kind, for people.
        raw_score: float32 (n,), finite.
        p_value: float64 (n,), in [1e-12, 1], by the model's calibration.
        errors: float64 (n_features,), mean deviation of each feature, in the model's own units.
        examples: of the highest scores, the highest first.
        pictures: of some rows and of the highest scores; None where rows are no images.
    """

    name: str
    raw_score: NDArray[np.float32]
    p_value: NDArray[np.float64]
    errors: NDArray[np.float64]
    examples: tuple[Example, ...]
    pictures: Pictures | None = None

    @property
    def score(self) -> NDArray[np.float64]:
        """float64 (n,), 0 to 100."""
        return score_of(self.p_value)


@dataclass(frozen=True)
class Evidence:
    """All that was measured.

    Attributes:
        normal: rows taken as normal.
        anomalies: rows that a label or a person calls anomalous; None when there are none.
        p_value: float64 (m,), of normal rows, by a calibration that does not hold them.
        p_value_source: which rows, and which calibration.
        anomalies_chose_weights: whether the anomalies took part in the training, where they told when to stop.
    """

    normal: Group
    anomalies: Group | None
    p_value: NDArray[np.float64]
    p_value_source: str
    anomalies_chose_weights: bool = False

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups that there are."""
        return (self.normal,) if self.anomalies is None else (self.normal, self.anomalies)


def evidence_of_training(bundle: Bundle, history: History, split: Split) -> Evidence:
    """From the rows that calibrate the model and those that labels kept out of training.

    The model's own p-values of its calibration rows are uniform by construction. So one half of them, the older one where times
    are known, calibrates anew, and the other half is judged by that.
    """
    normal = _gather("held-out rows", bundle, history.frame[split.calibrate])
    half = max(1, len(normal.raw_score) // 2)
    older, newer = normal.raw_score[:half], normal.raw_score[half:]
    which = "newer" if history.times is not None else "random"
    return Evidence(
        normal=normal,
        anomalies=_gather_anomalies("labelled anomalies", bundle, history.frame, history.labels),
        p_value=fit_calibration(older).p_values(newer, tie_breakers(bundle.sha256, "", 0, np.arange(len(newer)))),
        p_value_source=f"a {which} half of the held-out rows, judged by a calibration on the other half",
        anomalies_chose_weights=len(split.validate) > 0,
    )


def evidence_of_trial(bundle: Bundle, trial: Trial) -> Evidence:
    """From the rows that the gate held the model against."""
    normal = _gather("newest rows", bundle, trial.window)
    return Evidence(
        normal=normal,
        anomalies=_gather_anomalies("judged anomalies", bundle, trial.labelled, trial.labels),
        p_value=normal.p_value,
        p_value_source="the newest rows, judged by the model's own calibration, which holds none of them",
    )


def _gather_anomalies(
    name: str, bundle: Bundle, frame: pl.DataFrame | None, labels: NDArray[np.bool_] | None
) -> Group | None:
    if frame is None or labels is None or not labels.any():
        return None
    return _gather(name, bundle, frame.filter(labels))


def _gather(name: str, bundle: Bundle, frame: pl.DataFrame) -> Group:
    frame = _thinned(frame)
    found = _score(bundle, frame)
    explained = found.X[:: -(-len(found.X) // _EXPLAINED_ROWS)]
    residual = bundle.scorer.explain(explained).residual.astype(np.float64)
    return Group(
        name=name,
        raw_score=found.raw_score,
        p_value=found.p_value,
        errors=np.maximum.reduceat(residual, bundle.preprocessor.starts, axis=1).mean(axis=0),
        examples=_examples(bundle, frame, found),
        pictures=take_pictures(bundle, found.X, found.raw_score),
    )


def _thinned(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.gather_every(-(-frame.height // MOST_ROWS)) if frame.height > MOST_ROWS else frame


def _score(bundle: Bundle, frame: pl.DataFrame) -> Detections:
    """All rows, in pieces; a score that is no number counts as the largest there is."""
    breakers = tie_breakers(bundle.sha256, "", 0, np.arange(frame.height))
    starts = range(0, frame.height, _ROWS_AT_ONCE)
    parts = [
        detect(bundle, frame.slice(start, _ROWS_AT_ONCE), breakers[start : start + _ROWS_AT_ONCE]) for start in starts
    ]
    raw_score = np.concatenate([part.raw_score for part in parts])
    largest = np.finfo(np.float32).max
    return Detections(
        X=np.concatenate([part.X for part in parts]),
        missing=None,
        raw_score=np.where(raw_score < largest, raw_score, largest),
        p_value=np.concatenate([part.p_value for part in parts]),
        score=np.concatenate([part.score for part in parts]),
    )


def _examples(bundle: Bundle, frame: pl.DataFrame, found: Detections) -> tuple[Example, ...]:
    rows = np.argsort(-found.raw_score, kind="stable")[:EXAMPLES].astype(np.intp)
    attributions = explain(bundle, frame, found, rows, 3)
    return tuple(
        Example(float(found.score[row]), float(found.p_value[row]), float(found.raw_score[row]), attribution)
        for row, attribution in zip(rows.tolist(), attributions, strict=True)
    )
