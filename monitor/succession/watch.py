"""Looks at the registry's promotions from a thread of its own, loads and verifies what they name, and undoes one on demand."""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from monitor.errors import BundleError
from monitor.model.bundle import Bundle
from monitor.model.promotions import Promotion, previous_champion
from monitor.model.registry import Registry
from monitor.model.schema import Schema

log = logging.getLogger(__name__)

# A champion that is older than this has been watched by whoever followed it.
FRESH = timedelta(days=1)


class Listener(Protocol):
    """Is told what the watch could not do, or did; from its thread."""

    def refused(self, promotion: Promotion, version: str, error: str) -> None:
        """A version that the entry names, champion or challenger, cannot be used."""

    def rolled_back(self, promotion: Promotion) -> None:
        """The registry has gone back."""

    def cannot_roll_back(self, version: str, error: str) -> None:
        """The registry takes no entry: the old model stays in service here all the same."""

    def reachable(self, *, yes: bool) -> None:
        """Whether the registry answered this time."""


@dataclass(frozen=True)
class Offer:
    """Verified models, as the registry wants them.

    Attributes:
        promotion: the entry that says so.
        champion: the model to score.
        challenger: the model to be tried beside it, if any.
        predecessor: the champion before, where the champion in service at the start may not have been watched to the end.
    """

    promotion: Promotion
    champion: Bundle
    challenger: Bundle | None
    predecessor: Bundle | None = None


@dataclass(frozen=True)
class Unwanted:
    """A promotion that is to be undone.

    Attributes:
        promotion: its entry.
        reason: a sentence.
    """

    promotion: Promotion
    reason: str

    def stands(self, last: Promotion) -> bool:
        """Whether the newest entry still wants it: it is the promotion itself, or named a challenger since."""
        challenged = last.action == "challenge" and last.champion == self.promotion.champion
        return challenged or last.id == self.promotion.id


class RegistryWatch:
    """Follows the promotions of one model."""

    def __init__(
        self, registry: Registry, schema: Schema, in_service: Bundle, poll_s: float, listener: Listener
    ) -> None:
        """Does nothing before `start`.

        Args:
            registry: where promotions are.
            schema: what a model must be for.
            in_service: the model that scores now.
            poll_s: seconds between two looks.
            listener: is told of failures.
        """
        self._registry = registry
        self._schema = schema
        self._model = in_service.manifest.model
        self._poll_s = poll_s
        self._listener = listener
        self._champion = in_service
        self._loaded: dict[str, Bundle] = {in_service.version: in_service}
        self._offered: str | None = None  # id of the entry that was offered last
        self._complained: str | None = None  # id of the entry that could not be used
        self._unwanted: Unwanted | None = None
        self._told_cannot_roll_back = False
        self._offers: queue.SimpleQueue[Offer] = queue.SimpleQueue()
        self._woken = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ganwatch-registry", daemon=True)

    def start(self) -> None:
        """Looks now, so that a fresh champion is watched from the first record on, and from a thread from now on."""
        self._look_whatever_happens()
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread soon; does not wait."""
        self._ended.set()
        self._woken.set()

    def take(self) -> Offer | None:
        """The newest offer since the last time, if there is one; never waits."""
        offer = None
        while True:
            try:
                offer = self._offers.get_nowait()
            except queue.Empty:
                return offer

    def undo(self, unwanted: Unwanted) -> None:
        """Has the registry go back, now and at every look until it does; the unwanted promotion is not offered again."""
        self._unwanted = unwanted
        self._told_cannot_roll_back = False
        self._woken.set()

    def _run(self) -> None:
        while True:
            self._woken.wait(self._poll_s)
            self._woken.clear()
            if self._ended.is_set():
                return
            self._look_whatever_happens()

    def _look_whatever_happens(self) -> None:
        """Once; without the thread no promotion would be seen any more."""
        try:
            self.look()
        except Exception:
            self._listener.reachable(yes=False)
            log.exception("registry_not_watched")

    def look(self) -> None:
        """Once: undoes what is unwanted, offers what is new."""
        try:
            last = self._registry.last_promotion(self._model)
            self._listener.reachable(yes=True)
        except BundleError as error:
            self._listener.reachable(yes=False)
            log.debug("registry_unreachable", extra={"error": str(error)})
            if self._unwanted is not None:
                self._tell_cannot_roll_back(self._unwanted, error)
            return
        unwanted = self._unwanted
        if unwanted is not None and last is not None and unwanted.stands(last):
            self._roll_back(unwanted)
        elif last is not None and last.id != self._offered:
            self._offer(last)

    def _roll_back(self, unwanted: Unwanted) -> None:
        version = unwanted.promotion.champion
        try:
            entry = self._registry.rollback(self._model, author="guard", reason=unwanted.reason, champion=version)
        except BundleError as error:
            self._tell_cannot_roll_back(unwanted, error)
            return
        self._unwanted = None
        if entry is not None:  # otherwise somebody else was faster
            self._listener.rolled_back(entry)
        self._woken.set()  # look again at once

    def _tell_cannot_roll_back(self, unwanted: Unwanted, error: BundleError) -> None:
        """Once about each promotion that is to be undone."""
        if not self._told_cannot_roll_back:
            self._listener.cannot_roll_back(unwanted.promotion.champion, str(error))
        self._told_cannot_roll_back = True

    def _offer(self, last: Promotion) -> None:
        try:
            champion = self._load(last.champion)
        except BundleError as error:
            self._complain(last, last.champion, error)
            return
        try:
            challenger = self._load(last.challenger) if last.challenger else None
        except BundleError as error:
            self._complain(last, str(last.challenger), error)
            challenger = None
        predecessor = self._fresh_ones_predecessor(last) if self._offered is None else None
        self._offered = last.id
        # The predecessor stays at hand, for going back at once.
        kept = (self._champion, champion, challenger, predecessor)
        self._loaded = {bundle.version: bundle for bundle in kept if bundle is not None}
        self._champion = champion
        self._offers.put(Offer(last, champion, challenger, predecessor))

    def _fresh_ones_predecessor(self, last: Promotion) -> Bundle | None:
        """Of a champion that became it shortly before this process began; None where there is none that can be used."""
        if not _is_fresh(last):
            return None
        try:
            entries = self._registry.promotions(self._model)
            made = next(entry for entry in reversed(entries) if entry.action != "challenge")
            before = previous_champion(entries)
            watched = made.action == "rollback" or not _is_fresh(made)
            return None if before is None or watched else self._load(before)
        except BundleError as error:
            log.warning("predecessor_not_usable", extra={"version": last.champion, "error": str(error)})
            return None

    def _complain(self, entry: Promotion, version: str, error: BundleError) -> None:
        """Once about each entry."""
        if self._complained != entry.id:
            self._complained = entry.id
            self._listener.refused(entry, version, str(error))

    def _load(self, version: str) -> Bundle:
        known = self._loaded.get(version)
        return known or self._registry.load(self._model, version, expected_schema=self._schema)


def _is_fresh(entry: Promotion) -> bool:
    """Whether it was written within the last day; not where its time cannot be read."""
    try:
        return datetime.now(UTC) - datetime.fromisoformat(entry.time) <= FRESH
    except (ValueError, TypeError):  # no time, or one without a zone
        return False
