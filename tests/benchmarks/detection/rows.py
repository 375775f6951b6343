"""Rows of the benchmark's data sets, split and transformed, and the scores of a detector that was trained on them."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.io import loadmat
from sklearn.metrics import roc_auc_score

from monitor.model.schema import Feature, Schema
from training.detectors.efficient_gan import EfficientGAN
from training.detectors.efficient_gan_options import EfficientGANOptions
from training.detectors.options import Scaling
from training.preprocessing import fit_preprocessor

EFFICIENT_GAN = "EfficientGAN"


@dataclass(frozen=True)
class Table:
    """A data set of numbers.

    Attributes:
        values: float64 (n, k), in the fields' own units.
        y: int64 (n,), 1 = anomaly.
    """

    values: NDArray[np.float64]
    y: NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """A data set, split and transformed.

    Attributes:
        X_train: float32 (n, d), taken as normal.
        X_test: float32 (m, d).
        y_test: int64 (m,), 1 = anomaly.
    """

    X_train: NDArray[np.float32]
    X_test: NDArray[np.float32]
    y_test: NDArray[np.int64]


def read_table(path: Path) -> Table:
    """A file `.npz` or `.mat` with X and y."""
    content = np.load(path) if path.suffix == ".npz" else loadmat(path)
    return Table(np.asarray(content["X"], np.float64), np.asarray(content["y"]).ravel().astype(np.int64))


def read_numbers(path: Path) -> NDArray[np.float64]:
    """A packed file of numbers between commas: float64 (n, k), or (n,) for one column."""
    with gzip.open(path, "rt") as file:
        return np.loadtxt(file, delimiter=",")


def split_normals(table: Table, seed: int, scaling: Scaling = "log_zscore") -> Rows:
    """One half of the normal rows trains; the other half and all anomalies test."""
    normals = np.random.default_rng(seed).permutation(np.flatnonzero(table.y == 0))
    train, rest = np.split(normals, [len(normals) // 2])
    test = np.sort(np.concatenate([rest, np.flatnonzero(table.y == 1)]))
    return transform(table.values[train], table.values[test], table.y[test], scaling)


def transform(
    train: NDArray[np.float64], test: NDArray[np.float64], y_test: NDArray[np.int64], scaling: Scaling = "log_zscore"
) -> Rows:
    """Applies a preprocessor that has seen the training rows only."""
    names = [f"f{j}" for j in range(train.shape[1])]
    schema = Schema(name="numbers", features=tuple(Feature(name=name, kind="numeric") for name in names))
    preprocessor = fit_preprocessor(pl.DataFrame(train, schema=names), schema, scaling=scaling)
    X_train, X_test = (preprocessor.transform(pl.DataFrame(part, schema=names)).X for part in (train, test))
    return Rows(X_train, X_test, y_test)


def train_and_score(
    X_train: NDArray[np.float32], X_test: NDArray[np.float32], options: EfficientGANOptions, seed: int
) -> tuple[NDArray[np.float32], float]:
    """Scores float32 (m,) of the test rows by an EfficientGAN, and the seconds that training it took."""
    started = time.perf_counter()
    detector = EfficientGAN(X_train.shape[1], options, seed)
    detector.fit(X_train)
    return detector.score_rows(X_test), time.perf_counter() - started


def measure_auroc(scores: Mapping[str, NDArray[np.floating]], y: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """The area under the ROC curve of each detector."""
    return {name: {"auroc": float(roc_auc_score(y, score))} for name, score in scores.items()}


def mean_of(values: Iterable[float]) -> float:
    """To four decimals."""
    return round(float(np.mean(list(values))), 4)
