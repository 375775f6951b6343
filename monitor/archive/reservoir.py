"""A uniform sample of bounded size from a stream of any length."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.model.calibration import tie_breakers

_COMPACT_AT = 2  # times the capacity


def sampling_keys(topic: str, partition: int, offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """One number in [0, 1) a record, float64 (n,): always the same for a record, as good as random across records."""
    return tie_breakers("archive", topic, partition, offsets)


class Reservoir:
    """Keeps the rows with the smallest keys. With uniform keys that is a uniform sample without replacement.

    A row is looked at by its key alone, so almost all of a long stream costs one comparison a row; and two reservoirs of one
    stream's parts can be merged by their keys.
    """

    def __init__(self, capacity: int) -> None:
        """At most `capacity` rows are kept, at least one."""
        self._capacity = max(1, capacity)
        self._limit = np.inf
        self._keys: list[NDArray[np.float64]] = []
        self._frames: list[pl.DataFrame] = []
        self._columns: list[Mapping[str, NDArray[Any]]] = []
        self._held = 0
        self.seen = 0

    @property
    def limit(self) -> float:
        """Rows with this key or a greater one are not wanted any more; it only falls."""
        return self._limit

    def wanted(self, keys: NDArray[np.float64], seen: int | None = None) -> NDArray[np.intp]:
        """Positions of the rows that may stay, intp (k,); the others need not even be built.

        Args:
            keys: float64 (n,), of the next rows of the stream, those beyond `limit` left out or not.
            seen: how many rows these stand for; n by default.
        """
        self.seen += len(keys) if seen is None else seen
        return np.flatnonzero(keys < self._limit)

    def put(
        self, frame: pl.DataFrame, keys: NDArray[np.float64], columns: Mapping[str, NDArray[Any]] = MappingProxyType({})
    ) -> None:
        """Takes rows that `wanted` asked for.

        Args:
            frame: k rows.
            keys: float64 (k,), theirs.
            columns: further columns, (k,) each; numpy joins many small ones far faster than frames are made of them.
        """
        if not len(keys):
            return
        self._frames.append(frame)
        self._keys.append(keys)
        self._columns.append(columns)
        self._held += len(keys)
        if self._held > _COMPACT_AT * self._capacity:
            self._compact()

    def rows(self) -> pl.DataFrame | None:
        """The sample, in the order in which the rows came, further columns last; None when there was none."""
        if not self._frames:
            return None
        self._compact()
        further = [
            pl.Series(name, values.tolist() if values.dtype == object else values)
            for name, values in self._columns[0].items()
        ]
        return self._frames[0].hstack(further)

    def _compact(self) -> None:
        """Keeps the smallest keys and remembers from which one on a row can no longer be among them."""
        keys, frame = np.concatenate(self._keys), pl.concat(self._frames)
        columns = {name: np.concatenate([part[name] for part in self._columns]) for name in self._columns[0]}
        if len(keys) > self._capacity:
            kept = np.sort(np.argpartition(keys, self._capacity - 1)[: self._capacity])
            keys, frame = keys[kept], frame[kept]
            columns = {name: values[kept] for name, values in columns.items()}
        self._keys, self._frames, self._columns, self._held = [keys], [frame], [columns], len(keys)
        if len(keys) == self._capacity:
            self._limit = float(keys.max())
