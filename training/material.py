"""Sorts what was read into what is trained on and what challenger, champion and anchor are compared on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.model.schema import Schema
from training.gate import LEAST_LABELLED, Trial
from training.history import History
from training.suite import Reference, make_suite, new_reference, without_copies

# Of the newest rows, every fifth is kept for the gate; the others calibrate, so both are from the same time.
WINDOW_SHARE = 0.3
WINDOW_EVERY = 5
# At most this share of the rows to learn from is replayed from the reference.
REPLAY_SHARE = 0.25
_NORMALS_BESIDE_LABELLED = 2_000


@dataclass(frozen=True)
class RetrainingData:
    """What a retraining starts from.

    Attributes:
        history: rows to learn from, taken as normal; those that its labels call anomalies are kept apart.
        labelled: records that people judged; None when there are none.
        labels: bool (n,), true = anomaly, for `labelled`.
        left_out: how many rows were not taken, by reason.
    """

    history: History
    labelled: pl.DataFrame | None = None
    labels: NDArray[np.bool_] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Material:
    """Rows by purpose; no row of the trial is trained on.

    Attributes:
        history: to train and calibrate.
        trial: to compare on.
        reference: that the trial's frozen part comes from.
        described: counts, for the manifest.
    """

    history: History
    trial: Trial
    reference: Reference
    described: Mapping[str, Any]


def prepare(data: RetrainingData, schema: Schema, reference: Reference | None, rng: np.random.Generator) -> Material:
    """Holds rows out, and adds the reference's replay to the others.

    Args:
        data: what was read and found fit.
        schema: the features.
        reference: the anchor's; None when it must be drawn from these rows.
        rng: decides everything random.
    """
    history, anomalies = _without_anomalies(data.history)
    reference = reference or new_reference(history.frame, schema, rng)
    rows = _in_order_of_time(history, without_copies(history.frame, reference.suite.normals))
    is_window = np.zeros(len(rows), dtype=bool)
    newest = max(1, round(WINDOW_SHARE * len(rows)))
    is_window[-newest::WINDOW_EVERY] = True
    window = history.frame[rows[is_window]]
    labelled, labels = _labelled_rows(data, anomalies, window)
    n_labelled_anomalies = int(labels.sum())
    judged_by_labels = n_labelled_anomalies >= LEAST_LABELLED
    # One of them may have been taken for normal when the reference was frozen.
    replay = reference.replay[without_copies(reference.replay, labelled.filter(labels))]
    learned, n_replay = _with_replay(history, rows[~is_window], replay, rng)
    trial = Trial(
        frozen=reference.suite,
        window=window,
        newest=history.frame[rows[-newest:]],
        recent=make_suite(window, schema, rng),
        labelled=labelled if judged_by_labels else None,
        labels=labels if judged_by_labels else None,
    )
    described = {
        "window_rows": window.height,
        "replay_rows": n_replay,
        "reference_rows": reference.suite.normals.height,
        "labelled_rows": labelled.height if judged_by_labels else 0,
        "labelled_anomalies": n_labelled_anomalies,
        "left_out": dict(data.left_out),
    }
    return Material(learned, trial, reference, described)


def few_labels(material: Material) -> list[str]:
    """A remark where anomalies that people confirmed are too few to compare models on."""
    n = material.described["labelled_anomalies"]
    if not 0 < n < LEAST_LABELLED:
        return []
    return [f"{n} labelled anomalies are too few to compare models on them; {LEAST_LABELLED} are needed"]


def _without_anomalies(history: History) -> tuple[History, pl.DataFrame]:
    """The rows that are not labelled as anomalies, and those that are."""
    if history.labels is None:
        return history, history.frame.clear()
    normal = ~history.labels
    times = None if history.times is None else history.times[normal]
    kept = replace(history, frame=history.frame.filter(normal), times=times, labels=None)
    return kept, history.frame.filter(history.labels)


def _in_order_of_time(history: History, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """The same rows, oldest first; in the order in which they came where no time is known."""
    if history.times is None:
        return np.sort(rows)
    return rows[np.argsort(history.times[rows], kind="stable")]


def _labelled_rows(
    data: RetrainingData, anomalies: pl.DataFrame, window: pl.DataFrame
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Judged records, with some of the newest rows as further normal ones."""
    parts, labels = [anomalies, window.head(_NORMALS_BESIDE_LABELLED)], [np.ones(anomalies.height, dtype=bool)]
    labels.append(np.zeros(parts[1].height, dtype=bool))
    if data.labelled is not None and data.labels is not None:
        parts.append(data.labelled)
        labels.append(data.labels)
    return pl.concat(parts), np.concatenate(labels)


def _with_replay(
    history: History, rows: NDArray[np.intp], replay: pl.DataFrame, rng: np.random.Generator
) -> tuple[History, int]:
    """Rows to learn from: some old ones, dated before all others so that they never calibrate, then those of now."""
    n_replay = min(replay.height, round(REPLAY_SHARE / (1 - REPLAY_SHARE) * len(rows)))
    old = replay[rng.choice(replay.height, n_replay, replace=False)] if n_replay else replay.clear()
    times = None
    if history.times is not None:
        now = history.times[rows]
        times = np.concatenate([np.full(n_replay, now.min()), now])
    return replace(history, frame=pl.concat([old, history.frame[rows]]), times=times), n_replay
