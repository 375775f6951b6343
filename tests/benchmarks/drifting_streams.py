"""Streams that drift, for `e2e_drift`: simulated ones, of which the moments are known, and Elec2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from monitor.model.schema import Schema

_LOADINGS = np.random.default_rng(3).normal(size=(3, 8))
_SHIFT = np.array([1.6, 0.0, -1.6, 0.0, 1.6, 0.0, 0.0, 0.0])
_OTHER_SHIFT = np.array([0.0, 1.4, 0.0, 1.4, 0.0, -1.4, 0.0, 1.4])


@dataclass(frozen=True)
class Drift:
    """A change of the stream.

    Attributes:
        kind: `abrupt`, `gradual` or `recurring`.
        begins: record at which it begins.
        ends: record from which on the stream stays as it is.
    """

    kind: str
    begins: int
    ends: int


@dataclass(frozen=True)
class DriftingStream:
    """Records in time order, normal throughout.

    Attributes:
        name: of the stream.
        past: what the first model learns from.
        records: what comes then.
        drifts: in them, by record number.
    """

    name: str
    past: pl.DataFrame
    records: pl.DataFrame
    drifts: Sequence[Drift]

    @property
    def schema(self) -> Schema:
        """All columns are numbers."""
        features = [{"name": name, "kind": "numeric"} for name in self.past.columns]
        return Schema.from_mapping({"name": self.name, "features": features}, self.name)


def simulated(past: int = 8_000, records: int = 40_000) -> DriftingStream:
    """Eight features of three hidden factors: an abrupt shift, a gradual one to a third state, and back to the first one."""
    tenth = records // 10
    abrupt = Drift("abrupt", 2 * tenth, 2 * tenth)
    gradual = Drift("gradual", 4 * tenth, 5 * tenth)
    recurring = Drift("recurring", 8 * tenth, 8 * tenth)
    at = np.arange(records)
    share = np.clip((at - gradual.begins) / (gradual.ends - gradual.begins), 0.0, 1.0)
    shifted = np.where(at < abrupt.begins, 0.0, 1.0 - share)
    other = np.where(at < recurring.begins, share, 0.0)
    shifted[at >= recurring.begins] = 0.0
    means = np.outer(shifted, _SHIFT) + np.outer(other, _OTHER_SHIFT)
    rng = np.random.default_rng(4)
    return DriftingStream("simulated", _rows(past, rng, 0.0), _rows(records, rng, means), (abrupt, gradual, recurring))


def stationary(past: int = 8_000, records: int = 100_000) -> DriftingStream:
    """The same without any drift."""
    rng = np.random.default_rng(5)
    return DriftingStream("stationary", _rows(past, rng, 0.0), _rows(records, rng, 0.0), ())


def elec2(data: Path, past: int = 6_000) -> DriftingStream:
    """New South Wales' electricity market; three columns are constant until trade with Victoria begins."""
    frame = pl.read_csv(data / "elec2" / "elec.csv.gz").drop("class")
    demand = frame.get_column("vicdemand")
    opened = int(np.flatnonzero((demand != demand[0]).to_numpy())[0]) - past
    return DriftingStream("elec2", frame[:past], frame[past:], (Drift("abrupt", opened, opened),))


def _rows(n: int, rng: np.random.Generator, means: np.ndarray | float) -> pl.DataFrame:
    hidden = rng.normal(size=(n, len(_LOADINGS)))
    values = hidden @ _LOADINGS + rng.normal(scale=0.5, size=(n, _LOADINGS.shape[1])) + means
    return pl.DataFrame({f"sensor_{number}": values[:, number] for number in range(values.shape[1])})
