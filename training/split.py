"""Which rows of a history train, which calibrate, and which tell when to stop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.errors import ConfigError
from training.history import History

CALIBRATION_SHARE = 0.3
VALIDATION_SHARE = 0.2
MOST_CALIBRATION_ROWS = 200_000
LEAST_ROWS = 20


@dataclass(frozen=True)
class Split:
    """Positions of rows in the history, by what they are for.

    Attributes:
        train: normal rows to learn from.
        calibrate: normal rows that neither preprocessing nor training sees.
        validate: labelled rows of both kinds for early stopping; empty without labels.
    """

    train: NDArray[np.intp]
    calibrate: NDArray[np.intp]
    validate: NDArray[np.intp]


def split_rows(history: History, rng: np.random.Generator) -> Split:
    """Splits by time where times are known (the newest rows calibrate), else at random.

    Raises:
        ConfigError: fewer than 20 normal rows.
    """
    everything = np.arange(history.frame.height)
    normal = everything if history.labels is None else everything[~history.labels]
    if len(normal) < LEAST_ROWS:
        labelled = len(everything) - len(normal)
        hint = f"; by their labels {labelled} rows are anomalies, and --anomaly says which labels mean that"
        raise ConfigError(
            history.source,
            f"{len(normal)} normal rows are too few to train and calibrate; at least {LEAST_ROWS} are needed"
            + (hint if labelled else ""),
        )
    anomalies = everything[history.labels] if history.labels is not None else everything[:0]
    order = (
        rng.permutation(normal) if history.times is None else normal[np.argsort(history.times[normal], kind="stable")]
    )
    n_calibrate = min(MOST_CALIBRATION_ROWS, max(1, round(CALIBRATION_SHARE * len(order))))
    train, calibrate = order[:-n_calibrate], order[-n_calibrate:]
    if not len(anomalies):
        return Split(train=train, calibrate=calibrate, validate=anomalies)
    n_validate = max(1, round(VALIDATION_SHARE * len(train)))
    return Split(
        train=train[:-n_validate], calibrate=calibrate, validate=np.concatenate([train[-n_validate:], anomalies])
    )
