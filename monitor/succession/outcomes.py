"""Shows what happens to the models in service: metrics, log lines, events. Called by the loop and by the registry's watch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitor import __version__
from monitor.drift.watch import Drift
from monitor.events import EventKind, ModelEvent, event_time
from monitor.model.decision import explain_no_flags
from monitor.model.promotions import Promotion
from monitor.stream.pipeline import Pipeline
from monitor.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass
class Outcomes:
    """Tells people and programs.

    Attributes:
        metrics: the daemon's.
        announce: publishes an event, if anybody wants them.
        model: name of the model.
        group: the monitor's consumer group.
    """

    metrics: Metrics
    announce: Callable[[ModelEvent], None]
    model: str
    group: str
    _reachable: bool = True
    _cannot_flag: tuple[str, str] | None = None

    def in_service(self, pipeline: Pipeline) -> None:
        """Shows the model that scores, and the one beside it."""
        bundle = pipeline.bundle
        self.metrics.model.info(
            {
                "name": bundle.manifest.model,
                "version": bundle.version,
                "detector": bundle.manifest.detector,
                "ganwatch": __version__,
                "beside": pipeline.beside.version if pipeline.beside else "",
            }
        )
        self.metrics.model_created.set(datetime.fromisoformat(bundle.manifest.created_at).timestamp())
        self.metrics.threshold.set(pipeline.threshold)
        self.metrics.target_alert_rate.set(pipeline.target_alert_rate)
        self._warn_of_silence(pipeline)

    def _warn_of_silence(self, pipeline: Pipeline) -> None:
        """Once a model and reason."""
        reason = explain_no_flags(pipeline.settings, pipeline.bundle.calibration)
        cannot_flag = None if reason is None else (pipeline.bundle.version, reason)
        if reason is not None and cannot_flag != self._cannot_flag:
            log.warning("nothing_can_be_flagged", extra={"version": pipeline.bundle.version, "reason": reason})
        self._cannot_flag = cannot_flag

    def swapped(self, promotion: Promotion, before: str) -> None:
        """Another model scores from now on."""
        self.metrics.swaps.labels("done").inc()
        log.info("model_swapped", extra=_named(promotion) | {"before": before})
        self._tell("swapped", promotion.champion, promotion.reason, {"before": before, "author": promotion.author})

    def refused(self, promotion: Promotion, version: str, error: str) -> None:
        """A version cannot be used: the old champion stays, or nothing is tried beside it."""
        self.metrics.swaps.labels("refused").inc()
        log.error("model_refused", extra=_named(promotion) | {"version": version, "error": error})
        self._tell("refused", version, error)

    def sent_away(self, promotion: Promotion, predecessor: str, reason: str) -> None:
        """The guard found a new champion bad; its predecessor scores again."""
        self.metrics.swaps.labels("rolled_back").inc()
        log.warning("model_swapped", extra={"version": predecessor, "before": promotion.champion, "reason": reason})

    def rolled_back(self, promotion: Promotion) -> None:
        """The registry went back, by our guard's word."""
        log.warning("registry_rolled_back", extra=_named(promotion))
        self._tell("rolled_back", promotion.champion, promotion.reason)

    def cannot_roll_back(self, version: str, error: str) -> None:
        """The registry takes no entry."""
        log.error("registry_not_rolled_back", extra={"bad_version": version, "error": error})
        self._tell("fell_back", version, f"the old model scores in this process alone: {error}")

    def reachable(self, *, yes: bool) -> None:
        """Whether the registry answered; what is in service stays there in any case."""
        self.metrics.registry_up.set(yes)
        if yes != self._reachable:
            log.log(logging.INFO if yes else logging.WARNING, "registry_is_back" if yes else "registry_unreachable")
        self._reachable = yes

    def drifted(self, drift: Drift, version: str) -> None:
        """The records have changed."""
        self.metrics.drifts.labels(drift.kind).inc()
        log.warning("drift", extra={"version": version, "reason": drift.reason, **drift.detail})
        self._tell("drift", version, drift.reason, drift.detail)

    def _tell(self, kind: EventKind, version: str, reason: str, detail: Mapping[str, Any] | None = None) -> None:
        event = ModelEvent(
            kind=kind,
            time=event_time(),
            model=self.model,
            version=version,
            group=self.group,
            reason=reason,
            detail=detail or {},
        )
        self.announce(event)


def _named(promotion: Promotion) -> dict[str, str]:
    return {"version": promotion.champion, "author": promotion.author, "reason": promotion.reason}
