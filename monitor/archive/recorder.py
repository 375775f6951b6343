"""Fills the archive from what was judged; closed strata are stored by a thread of their own."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor

from monitor.archive.writer import ArchiveOptions, ArchiveWriter, ClosedStratum, store_stratum
from monitor.errors import BundleError
from monitor.model.schema import Schema
from monitor.model.store import Store
from monitor.stream.judged import Judged
from monitor.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class Recorder:
    """The archive of one monitor; `observe` belongs to the thread that delivers."""

    def __init__(self, store: Store, model: str, schema: Schema, options: ArchiveOptions, metrics: Metrics) -> None:
        """Writes nothing before a stratum is full.

        Args:
            store: of the archive.
            model: whose records these are.
            schema: theirs.
            options: what is kept.
            metrics: counts what was stored and what could not be.
        """
        self._store = store
        self._model = model
        self._schema = schema
        self._options = options
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ganwatch-archive")
        self.writer = ArchiveWriter(options)

    def observe(self, judged: Judged) -> None:
        """Takes the rows that were chosen of a judged micro-batch."""
        if judged.sample is None:
            return
        closed = self.writer.add(judged.sample)
        if closed is not None:
            self._thread.submit(self._store_away, closed)

    def close(self) -> None:
        """Stores what there is; waits for it."""
        closed = self.writer.close()
        if closed is not None:
            self._thread.submit(self._store_away, closed)
        self._thread.shutdown()

    def _store_away(self, closed: ClosedStratum) -> None:
        """What cannot be stored is lost and counted; the archive is a sample, and nothing else may suffer for it."""
        rows = sum(frame.height for frame, _ in closed.parts.values())
        try:
            store_stratum(self._store, self._model, self._schema, closed, self._options, now=time.time())
        except BundleError as error:
            self._metrics.archived.labels("failed").inc(rows)
            log.warning("archive_not_written", extra={"error": str(error), "rows": rows})
            return
        self._metrics.archived.labels("stored").inc(rows)
