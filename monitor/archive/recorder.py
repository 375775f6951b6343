"""Fills the archive from what was judged; closed strata are stored by a thread of their own.

The archive is a sample: where its store hangs or fails, strata are left out and counted, and nothing else waits.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextlib import suppress

from monitor.archive.writer import ArchiveOptions, ArchiveWriter, ClosedStratum, store_stratum
from monitor.errors import BundleError
from monitor.model.schema import Schema
from monitor.model.store import Store
from monitor.stream.judged import Judged
from monitor.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

MOST_WAITING = 4
# A supervisor kills what has not ended after ten seconds.
CLOSE_S = 5.0


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
        self._closed: queue.Queue[ClosedStratum | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="ganwatch-archive", daemon=True)
        self._thread.start()
        self.writer = ArchiveWriter(options)

    def observe(self, judged: Judged) -> None:
        """Takes the rows that were chosen of a judged micro-batch."""
        if judged.sample is None:
            return
        closed = self.writer.add(judged.sample)
        if closed is not None:
            self._hand_over(closed)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Stores what there is, if that takes no longer than `timeout_s`."""
        closed = self.writer.close()
        if closed is not None:
            self._hand_over(closed)
        ends = time.monotonic() + timeout_s
        with suppress(queue.Full):
            self._closed.put(None, timeout=timeout_s)
        self._thread.join(max(0.0, ends - time.monotonic()))
        if self._thread.is_alive():
            log.warning("archive_not_written", extra={"error": f"the store does not answer within {timeout_s:g} s"})

    def _hand_over(self, closed: ClosedStratum) -> None:
        try:
            self._closed.put_nowait(closed)
        except queue.Full:
            self._left_out(closed, "the store does not keep up")

    def _run(self) -> None:
        while (closed := self._closed.get()) is not None:
            try:
                store_stratum(self._store, self._model, self._schema, closed, self._options, now=time.time())
            except BundleError as error:
                self._left_out(closed, str(error))
            else:
                self._metrics.archived.labels("stored").inc(closed.rows)

    def _left_out(self, closed: ClosedStratum, why: str) -> None:
        self._metrics.archived.labels("failed").inc(closed.rows)
        log.warning("archive_not_written", extra={"error": why, "rows": closed.rows})
