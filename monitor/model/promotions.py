"""The log of promotions: which version scores, since when, by whose word and why."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from monitor.errors import BundleError
from monitor.model.numbered_log import NumberedLog
from monitor.model.store import Store

Author = Literal["human", "gate", "guard"]
Action = Literal["promote", "rollback", "challenge"]


class Promotion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the log.

    Attributes:
        champion: version that scores.
        challenger: version that is tried beside it.
        anchor: version that only a human changes; guards against slow poisoning.
        time: ISO 8601, UTC.
        author: who did it.
        reason: a sentence.
        action: `promote` made the champion, `rollback` went back to an earlier one, `challenge` only named the challenger.
        id: random; no two entries are alike, so a writer can tell its own one from another's.
    """

    champion: str
    challenger: str | None = None
    anchor: str | None = None
    time: str
    author: Author
    reason: str
    action: Action = "promote"
    id: str = ""


class PromotionLog:
    """The log of one model; of several writers at once each gets its turn."""

    def __init__(self, store: Store, model: str) -> None:
        self.place = f"{store.url}/aliases/{model}"
        self._log = NumberedLog(store, f"aliases/{model}", Promotion)

    def entries(self) -> list[Promotion]:
        """All entries, oldest first.

        Raises:
            BundleError: one is damaged.
        """
        return self._log.read_all()

    def last(self) -> Promotion | None:
        """The entry that holds; None before the first one.

        Raises:
            BundleError: it is damaged.
        """
        return self._log.last()[1]

    def append(self, follow: Callable[[Promotion | None], Promotion | None]) -> Promotion | None:
        """Appends what `follow` makes of the last entry; where another writer was faster it is asked again.

        Returns:
            What was written; None when `follow` gave None, and then nothing was.
        """
        while True:
            number, last = self._log.last()
            entry = follow(last)
            if entry is None or self._log.append(number + 1, entry):
                return entry

    def rolled_back(self, *, author: Author, reason: str) -> Promotion:
        """The entry that goes back to the champion before the present one.

        Raises:
            BundleError: there is none.
        """
        entries = self.entries()
        target = previous_champion(entries)
        if target is None:
            raise BundleError(
                self.place, "there is no champion to go back to; `ganwatch models promote VERSION` names another one"
            )
        return Promotion(
            champion=target,
            anchor=entries[-1].anchor,
            time=_now(None),
            author=author,
            reason=reason,
            action="rollback",
            id=_new_id(),
        )


def promoted(
    last: Promotion | None,
    version: str,
    *,
    author: Author,
    reason: str,
    anchor: str | None = None,
    now: datetime | None = None,
) -> Promotion:
    """The entry that makes a version the champion; the first champion is the anchor until a human names another."""
    kept = last.anchor if last and last.anchor else version
    return Promotion(
        champion=version, anchor=anchor or kept, time=_now(now), author=author, reason=reason, id=_new_id()
    )


def challenged(last: Promotion, version: str | None, *, author: Author, reason: str) -> Promotion:
    """The entry that names the version to be tried beside the champion, or none any more."""
    return msgspec.structs.replace(
        last, challenger=version, time=_now(None), author=author, reason=reason, action="challenge", id=_new_id()
    )


def previous_champion(log: Sequence[Promotion]) -> str | None:
    """Where a rollback leads: the champion before the present one, never one that was itself rolled back.

    Args:
        log: all entries, oldest first.

    Returns:
        None when there is nothing to go back to.
    """
    standing: list[str] = []
    for entry in log:
        if entry.action == "rollback":
            while standing and standing[-1] != entry.champion:
                standing.pop()
        if not standing or standing[-1] != entry.champion:
            standing.append(entry.champion)
    return standing[-2] if len(standing) > 1 else None


def _new_id() -> str:
    return secrets.token_hex(8)


def _now(now: datetime | None) -> str:
    return (now or datetime.now(UTC)).isoformat(timespec="seconds")
