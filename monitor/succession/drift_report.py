"""Feeds the drift watch of the model that judged, and shows what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from monitor.stream.judged import Judged
from monitor.succession.outcomes import Outcomes
from monitor.telemetry.metrics import Metrics


@dataclass
class DriftReport:
    """Observes judged micro-batches, in order.

    Attributes:
        metrics: show the figures.
        outcomes: tells of drift that was found.
    """

    metrics: Metrics
    outcomes: Outcomes
    _shown: Mapping[str, float] = field(default_factory=dict)

    def observe(self, judged: Judged) -> None:
        """Takes a micro-batch."""
        watch = judged.by.drift
        if watch is None or judged.inputs is None:
            return
        for drift in watch.observe(judged.p_values, judged.inputs):
            self.outcomes.drifted(drift, judged.by.bundle.version)
        self.metrics.score_drift.set(watch.score_drift)
        self.metrics.flag_rate_ratio.set(watch.flag_rate_ratio)
        if watch.input_drift != self._shown:
            self._shown = dict(watch.input_drift)
            for feature, value in self._shown.items():
                self.metrics.input_drift.labels(feature).set(value)
