"""What a bundle's manifest says of the rows and of the training that it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monitor.model.calibration import Calibration
from training.history import History, describe_window
from training.odd_features import OddFeatures
from training.samples import pack_samples
from training.split import Split

if TYPE_CHECKING:
    from training.trainer import TrainingHistory

_COURSE_POINTS = 100


def describe_data(history: History, split: Split, odd: OddFeatures) -> dict[str, Any]:
    """Where the rows came from, and what became of them."""
    first, last = describe_window(history.times)
    return {
        "source": history.source,
        "rows": history.frame.height,
        "train_rows": len(split.train),
        "calibration_rows": len(split.calibrate),
        "validation_rows": len(split.validate),
        "labelled_anomalies": int(history.labels.sum()) if history.labels is not None else None,
        "invalid_records": dict(history.invalid),
        "first": first,
        "last": last,
        "split": "by time" if history.times is not None else "at random",
        "constant_features": list(odd.constant),
        "missing_features": list(odd.missing),
        "extreme_features": odd.extreme,
    }


def describe_metrics(
    progress: TrainingHistory, calibration: Calibration, difference: float, seconds: float, n_rows: int
) -> dict[str, Any]:
    """Figures of the training.

    Args:
        progress: how it went.
        calibration: of the finished model.
        difference: of the exported network's scores from the trained one's, relative.
        seconds: that it took.
        n_rows: trained on.
    """
    last = progress.progress[-1] if progress.progress else None
    return {
        "steps": last.step if last else 0,
        "best_step": progress.best_step,
        "best_quality": progress.best_quality,
        "restarts": [str(restart) for restart in progress.restarts],
        "collapse": None if progress.collapse is None else str(progress.collapse),
        "trimmed_rows": progress.trimmed,
        "losses": dict(last.losses) if last else {},
        "course": _describe_course(progress),
        "train_seconds": round(seconds, 1),
        "train_rows": n_rows,
        "export_difference": difference,
        "calibration_tail": describe_tail(calibration),
    }


def describe_tail(calibration: Calibration) -> dict[str, float] | None:
    """The fitted tail; None where there is none."""
    tail = calibration.tail
    return None if tail is None else {"start": tail.start, "shape": tail.shape, "scale": tail.scale, "rate": tail.rate}


def _describe_course(progress: TrainingHistory) -> dict[str, Any]:
    """The losses on the way, thinned out and rounded, the evaluations, generated images: what the training report plots."""
    every = -(-len(progress.progress) // _COURSE_POINTS) or 1
    points = progress.progress[every - 1 :: every]
    names = points[0].losses if points else ()
    return {
        "step": [point.step for point in points],
        "losses": {name: [float(f"{point.losses[name]:.4g}") for point in points] for name in names},
        "evaluations": [[one.step, float(f"{one.quality:.5g}")] for one in progress.evaluations],
        "samples": pack_samples(progress.samples) if progress.samples else None,
    }
