"""What `ganwatch check` has tried and what came of it, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from monitor.errors import GanwatchError

State = Literal["ok", "wrong", "not tried"]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Trial:
    """One thing that the daemon needs.

    Attributes:
        what: it is.
        state: `not tried` when something that it needs was wrong before.
        detail: what was found, or what is wrong with it.
        remedy: how to mend it; None when it is not wrong.
        exit_code: that of `ganwatch run` for it; 0 when it is not wrong.
    """

    what: str
    state: State
    detail: str
    remedy: str | None = None
    exit_code: int = 0


@dataclass
class Trials:
    """Collects trials, in the order in which the daemon would come upon them.

    Attributes:
        done: so far.
    """

    done: list[Trial] = field(default_factory=list)

    def attempt(self, what: str, action: Callable[[], tuple[Found, str]], *, remedy: str) -> Found | None:
        """Tries something.

        Args:
            what: is tried.
            action: returns what it found, and a few words about it.
            remedy: what to do when it raises an error of ours.

        Returns:
            What was found; None when it is wrong.
        """
        try:
            found, detail = action()
        except GanwatchError as error:
            self.done.append(Trial(what, "wrong", str(error), remedy, error.exit_code))
            return None
        self.done.append(Trial(what, "ok", detail))
        return found

    def leave(self, what: Iterable[str], because: str) -> None:
        """Notes what cannot be tried."""
        self.done += [Trial(part, "not tried", because) for part in what]

    @property
    def exit_code(self) -> int:
        """The highest of all trials; 0 when nothing is wrong."""
        return max((trial.exit_code for trial in self.done), default=0)
