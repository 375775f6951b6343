"""What a fault did, in numbers, and what was demanded of it."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Delivered:
    """What readers of the alert and dead-letter topics see, against what an offline run of the same model expects.

    Attributes:
        alerts: expected.
        dead_letters: found, each for a record of its own; Q.
        lost: expected alerts and dead letters that are not there; L.
        repeated: further messages with an id, or from a record, that was there before; D.
        duplicates: further alerts of a record under another id; D after de-duplication by id.
        reordered: alerts behind one of a later record of the same partition, first appearances only; R.
        wrong: alerts and dead letters that are not expected, or say something else.
    """

    alerts: int
    dead_letters: int
    lost: int
    repeated: int
    duplicates: int
    reordered: int
    wrong: int

    @property
    def at_least_once(self) -> dict[str, bool]:
        """What is promised by default."""
        return {
            "nothing is lost": self.lost == 0,
            "duplicates have equal ids": self.duplicates == 0,
            "the order is kept": self.reordered == 0,
            "all is as in an offline run": self.wrong == 0,
        }

    @property
    def exactly_once(self) -> dict[str, bool]:
        """What is promised where nothing may be repeated."""
        return self.at_least_once | {"nothing is there twice": self.repeated == 0}

    def __add__(self, other: Delivered) -> Delivered:
        return Delivered(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


def summed(parts: Iterable[Delivered]) -> Delivered:
    """Of several runs."""
    return functools.reduce(operator.add, parts)


@dataclass(frozen=True)
class Outcome:
    """One row of the table.

    Attributes:
        demands: the pass condition, sentence by sentence, and whether each held.
        delivered: None where no record was at stake.
        recover_s: T, the longest time until it went on; None where nothing stood still.
        figures: more of what was counted, by the name it has in the last line of the output.
        notes: what else a reader of the table wants to know.
    """

    demands: Mapping[str, bool]
    delivered: Delivered | None = None
    recover_s: float | None = None
    figures: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    notes: str = ""

    @property
    def missed(self) -> list[str]:
        """Demands that did not hold."""
        return [demand for demand, held in self.demands.items() if not held]

    @property
    def passed(self) -> bool:
        """Whether all held; a row that demands nothing proves nothing."""
        return bool(self.demands) and not self.missed
