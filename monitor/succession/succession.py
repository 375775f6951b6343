"""Between two micro-batches: a new champion takes over, the guard's verdict is acted on, a challenger is tried beside."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from monitor.drift.watch import DriftWatch
from monitor.model.bundle import Bundle
from monitor.model.promotions import Promotion
from monitor.settings import Settings
from monitor.stream.judged import Judged
from monitor.stream.pipeline import Pipeline
from monitor.succession.guard import Guard
from monitor.succession.outcomes import Outcomes
from monitor.succession.watch import Offer, RegistryWatch, Unwanted

log = logging.getLogger(__name__)

# While a new model is watched, micro-batches are small, so that few alerts of a bad one are on their way.
GUARDED_ROWS = 128


@dataclass(frozen=True)
class Trial:
    """A new champion under guard.

    Attributes:
        promotion: the entry that made it champion.
        predecessor: the model to go back to.
        guard: watches it.
    """

    promotion: Promotion
    predecessor: Bundle
    guard: Guard


class Succession:
    """Decides who judges. `turn` belongs to the loop, `observe` to the thread that delivers."""

    def __init__(self, pipeline: Pipeline, watch: RegistryWatch | None, outcomes: Outcomes, guard_records: int) -> None:
        """Begins with the model in service.

        Args:
            pipeline: what judges now.
            watch: offers models; None when one version is pinned.
            outcomes: told what happens.
            guard_records: how many records a new champion is watched for; 0 trusts it at once.
        """
        self._watch = watch
        self._outcomes = outcomes
        self._guard_records = guard_records
        self._challenger: Bundle | None = None
        self._trial: Trial | None = None
        self._proven = {pipeline.bundle.version}
        self.pipeline = watched(pipeline)

    @property
    def most_rows(self) -> int:
        """The largest micro-batch for now."""
        most = self.pipeline.settings.max_rows
        return most if self._trial is None else min(most, GUARDED_ROWS)

    def observe(self, judged: Judged) -> None:
        """Takes note of a judged micro-batch, in order, before anything of it is sent."""
        trial = self._trial
        if trial is not None:
            trial.guard.observe(judged)

    def turn(self) -> None:
        """Called between two micro-batches."""
        if self._trial is not None and self._trial.guard.verdict != "watching":
            self._end_trial(self._trial)
        offer = self._watch.take() if self._watch else None
        if offer is not None:
            self._take_over(offer)

    def decide_by(self, settings: Settings) -> None:
        """Other decision settings from now on."""
        target = self.pipeline.target_alert_rate
        self.pipeline = replace(self.pipeline, settings=settings)
        if self.pipeline.target_alert_rate != target:
            self.pipeline = watched(self.pipeline)
        self._outcomes.in_service(self.pipeline)

    def _take_over(self, offer: Offer) -> None:
        self._challenger = offer.challenger
        before, version = self.pipeline.bundle, offer.champion.version
        if version == before.version:
            if offer.predecessor is not None:
                self._try(offer.promotion, version, offer.predecessor)
            self._seat(before)
            return
        predecessor = self._trial.predecessor if self._trial else before  # not one that is on trial itself
        # Going back to a model that was found sound needs no guard. One that was never tried here may lie in between, when two
        # were promoted at once.
        goes_back = offer.promotion.action == "rollback" and version in self._proven
        self._trial = None
        if not goes_back and version != predecessor.version:
            self._try(offer.promotion, version, predecessor)
        self._seat(offer.champion)
        self._outcomes.swapped(offer.promotion, before.version)

    def _try(self, promotion: Promotion, version: str, predecessor: Bundle) -> None:
        """Has the guard watch a champion from now on, if it watches any."""
        if self._guard_records > 0:
            self._proven.discard(version)
            guard = Guard(version, self.pipeline.target_alert_rate, self._guard_records)
            self._trial = Trial(promotion, predecessor, guard)

    def _end_trial(self, trial: Trial) -> None:
        self._trial = None
        if trial.guard.verdict == "sound":
            log.info("model_passed_guard", extra={"version": trial.guard.version, "records": trial.guard.seen})
            self._proven.add(trial.guard.version)
            self._seat(self.pipeline.bundle)
            return
        log.error("model_failed_guard", extra={"version": trial.guard.version, "reason": trial.guard.reason})
        self._seat(trial.predecessor)
        self._outcomes.sent_away(trial.promotion, trial.predecessor.version, trial.guard.reason)
        if self._watch:
            self._watch.undo(Unwanted(trial.promotion, trial.guard.reason))

    def _seat(self, bundle: Bundle) -> None:
        """Has a model judge what is polled from now on, and the right one beside it."""
        beside = self._challenger if self._trial is None else self._trial.predecessor
        changed = bundle is not self.pipeline.bundle
        self.pipeline = replace(self.pipeline, bundle=bundle, beside=beside)
        if changed:
            self.pipeline = watched(self.pipeline)
        self._outcomes.in_service(self.pipeline)


def watched(pipeline: Pipeline) -> Pipeline:
    """With a drift watch that has seen nothing yet, as another model or another target needs it."""
    return replace(pipeline, drift=DriftWatch(pipeline.bundle.preprocessor, pipeline.target_alert_rate))
