"""What the archive is offered of a scored micro-batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.archive.layout import COLUMNS
from monitor.archive.reservoir import sampling_keys


class Sampler(Protocol):
    """Says which records are wanted."""

    @property
    def limit(self) -> float:
        """Those with a smaller sampling key; it falls while a stratum lasts, so what was chosen earlier in it is enough."""


@dataclass(frozen=True)
class ScoredRows:
    """Scored records of one topic.

    Attributes:
        frame: the features, n rows.
        topic: where the records stand.
        partitions: int32 (n,), likewise.
        offsets: int64 (n,), likewise.
        times: float64 (n,), seconds since 1970.
        raw_score: float32 (n,).
        p_value: float64 (n,).
        score: float64 (n,).
        model: version that scored.
        alert_ids: by row, of the flagged rows only.
    """

    frame: pl.DataFrame
    topic: str
    partitions: NDArray[np.int32]
    offsets: NDArray[np.int64]
    times: NDArray[np.float64]
    raw_score: NDArray[np.float32]
    p_value: NDArray[np.float64]
    score: NDArray[np.float64]
    model: str
    alert_ids: Mapping[int, str]

    @property
    def flagged(self) -> NDArray[np.intp]:
        """Rows that became alerts, intp (k,), ascending."""
        return np.fromiter(sorted(self.alert_ids), dtype=np.intp, count=len(self.alert_ids))

    def sample(self, limit: float) -> Sample:
        """The rows whose sampling keys are below a limit, and all that became alerts."""
        keys = self.keys()
        flagged = self.flagged
        chosen = np.union1d(np.flatnonzero(keys < limit), flagged)
        places = np.searchsorted(chosen, flagged).tolist()
        rows = ScoredRows(
            frame=self.frame[chosen],
            topic=self.topic,
            partitions=self.partitions[chosen],
            offsets=self.offsets[chosen],
            times=self.times[chosen],
            raw_score=self.raw_score[chosen],
            p_value=self.p_value[chosen],
            score=self.score[chosen],
            model=self.model,
            alert_ids=dict(zip(places, (self.alert_ids[row] for row in flagged.tolist()), strict=True)),
        )
        return Sample(rows, keys[chosen], len(keys), limit, self)

    def keys(self) -> NDArray[np.float64]:
        """The sampling keys of all rows, float64 (n,)."""
        keys = np.empty(len(self.offsets))
        for partition in np.unique(self.partitions):
            own = self.partitions == partition
            keys[own] = sampling_keys(self.topic, int(partition), self.offsets[own])
        return keys

    def columns(self, rows: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """The archive's own columns of some rows, (k,) each, in the order of `COLUMNS`."""
        alert_ids = np.full(len(self.offsets), None, dtype=object)
        alert_ids[list(self.alert_ids)] = list(self.alert_ids.values())
        values: tuple[NDArray[Any], ...] = (
            self.times[rows],
            np.full(len(rows), self.topic, dtype=object),
            self.partitions[rows],
            self.offsets[rows],
            self.raw_score[rows],
            self.p_value[rows],
            self.score[rows],
            np.full(len(rows), self.model, dtype=object),
            alert_ids[rows],
        )
        return dict(zip(COLUMNS, values, strict=True))


@dataclass(frozen=True)
class Sample:
    """What was chosen of a scored micro-batch.

    Attributes:
        rows: k of its rows.
        keys: float64 (k,), their sampling keys.
        n_scored: how many rows it had.
        limit: rows with smaller keys were chosen.
        scored: all its rows, to choose anew where another limit holds by now.
    """

    rows: ScoredRows
    keys: NDArray[np.float64]
    n_scored: int
    limit: float
    scored: ScoredRows
