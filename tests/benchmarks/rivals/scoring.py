"""What every rival is given: our own decoder, transform and LiteRT scorer, a batch at a time. Their alerts carry no explanation."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np

from monitor.model.bundle import load_bundle
from monitor.model.calibration import threshold_of
from monitor.model.detection import detect


class BatchScorer:
    """Scores batches and keeps the time."""

    def __init__(self, bundle: str, target_alert_rate: float) -> None:
        self._bundle = load_bundle(bundle)
        self._decoder = self._bundle.decoder()
        self._threshold = threshold_of(target_alert_rate)
        self._first_at: float | None = None
        self._first_rows = 0
        self._last_at = 0.0
        self._rows = 0
        self._alerts = 0

    def alerts(self, values: Sequence[bytes]) -> list[bytes]:
        """The alerts of a batch of records."""
        decoded = self._decoder.decode(values)
        found = detect(self._bundle, decoded.frame, np.zeros(decoded.frame.height))
        flagged = np.flatnonzero(found.score >= self._threshold).tolist()
        alerts = [
            json.dumps({"score": float(found.score[row]), "record": values[decoded.rows[row]].decode()}).encode()
            for row in flagged
        ]
        self._count(len(values), len(alerts))
        return alerts

    def _count(self, rows: int, alerts: int) -> None:
        self._last_at = time.perf_counter()
        self._rows += rows
        self._alerts += alerts
        if self._first_at is None:
            self._first_at, self._first_rows = self._last_at, rows

    @property
    def rows(self) -> int:
        """How many were scored."""
        return self._rows

    def report(self) -> None:
        """Prints records per second between the ends of the first and the last batch, as one JSON object."""
        seconds = self._last_at - (self._first_at or 0.0)
        rate = (self._rows - self._first_rows) / seconds if seconds > 0 else 0.0
        json.dump({"records_per_s": rate, "records": self._rows, "alerts": self._alerts}, sys.stdout)
        print()
