"""Writes the archive: offers each scored batch to the reservoirs of the present stratum, and closes it when it is due.

`add` is for the thread that delivers and costs next to nothing; `store_stratum` does the input and output and belongs
into another thread. What was not stored when the process ends is lost: the archive is a sample, not a log.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.archive.layout import COLUMNS, Kind, folder_of, list_strata, path_of, surplus, to_parquet
from monitor.archive.reservoir import Reservoir
from monitor.archive.sample import Sample
from monitor.model.schema import Schema
from monitor.model.store import Store


@dataclass(frozen=True)
class ArchiveOptions:
    """How much is kept.

    Attributes:
        stratum_rows: rows that the sample of one stratum holds.
        stratum_flagged: flagged records kept beside it.
        stratum_records: a stratum is closed at this many records,
        stratum_s: or this long after its first one.
        strata: how many are kept, of each kind.
        retention_s: older ones go in any case.
    """

    stratum_rows: int = 5_000
    stratum_flagged: int = 1_000
    stratum_records: int = 1_000_000
    stratum_s: float = 3600.0
    strata: int = 40
    retention_s: float = 365 * 86_400.0


@dataclass(frozen=True)
class ClosedStratum:
    """What is to be stored: by kind the rows and how many records they stand for."""

    parts: dict[Kind, tuple[pl.DataFrame, int]]

    @property
    def rows(self) -> int:
        """Of all kinds."""
        return sum(frame.height for frame, _ in self.parts.values())


class ArchiveWriter:
    """The present stratum of one monitor; owned by the thread that delivers."""

    def __init__(self, options: ArchiveOptions, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds and only ever rises."""
        self._options = options
        self._clock = clock
        self._began_at: float | None = None
        self._reservoirs = self._new_reservoirs()

    @property
    def limit(self) -> float:
        """Only records with a smaller sampling key can still be wanted in this stratum; may be read by other threads."""
        return self._reservoirs["sample"].limit

    def add(self, sample: Sample) -> ClosedStratum | None:
        """Offers what was chosen of a batch; gives the stratum when this closed it."""
        if self._began_at is None:
            self._began_at = self._clock()
        if sample.limit < self.limit:  # chosen for a stratum that has ended meanwhile
            sample = sample.scored.sample(self.limit)
        flagged = sample.rows.flagged
        self._offer("sample", sample, np.arange(len(sample.keys)), sample.n_scored)
        self._offer("flagged", sample, flagged, len(flagged))
        return self.close() if self._is_due() else None

    def close(self) -> ClosedStratum | None:
        """Ends the present stratum and begins the next; None when it holds nothing."""
        parts: dict[Kind, tuple[pl.DataFrame, int]] = {}
        for kind, reservoir in self._reservoirs.items():
            rows = reservoir.rows()
            if rows is not None:
                parts[kind] = (rows.cast(COLUMNS), reservoir.seen)  # type: ignore[arg-type]
        self._began_at, self._reservoirs = None, self._new_reservoirs()
        return ClosedStratum(parts) if parts else None

    def _new_reservoirs(self) -> dict[Kind, Reservoir]:
        return {
            "sample": Reservoir(self._options.stratum_rows),
            "flagged": Reservoir(self._options.stratum_flagged),
        }

    def _offer(self, kind: Kind, sample: Sample, places: NDArray[np.intp], seen: int) -> None:
        reservoir = self._reservoirs[kind]
        keys = sample.keys[places]
        wanted = reservoir.wanted(keys, seen)
        if len(wanted):
            chosen = places[wanted]
            reservoir.put(sample.rows.frame[chosen], keys[wanted], sample.rows.columns(chosen))

    def _is_due(self) -> bool:
        if self._reservoirs["sample"].seen >= self._options.stratum_records:
            return True
        return self._began_at is not None and self._clock() - self._began_at >= self._options.stratum_s


def store_stratum(
    store: Store, model: str, schema: Schema, closed: ClosedStratum, options: ArchiveOptions, *, now: float
) -> None:
    """Writes the files of a stratum, then removes those that are too many or too old. Replicas may do so at once.

    Args:
        store: of the archive.
        model: whose records these are.
        schema: theirs.
        closed: what to write.
        options: what is kept.
        now: seconds since 1970.

    Raises:
        BundleError: the archive cannot be reached or written to; nothing else is harmed.
    """
    for kind, (rows, seen) in closed.parts.items():
        folder = folder_of(model, schema, kind)
        store.write(path_of(folder, rows, seen, secrets.token_hex(4)), to_parquet(rows))
        keep_after = int((now - options.retention_s) * 1000)
        for stratum in surplus(list_strata(store, folder), most=options.strata, keep_after=keep_after):
            store.remove(stratum.path)
