"""Which dead letters are meant, as the options of the command say it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from monitor.dead_letters.letters import DeadLetter
from monitor.errors import ConfigError, InvalidRecord

_SPAN = re.compile(r"^(\d+):(\d+)(?:\.\.(\d+))?$")


@dataclass(frozen=True)
class OffsetSpan:
    """Offsets of the features topic, both ends included."""

    partition: int
    first: int
    last: int


@dataclass(frozen=True)
class Selection:
    """What letters must have to be meant.

    Attributes:
        reasons: one of these; any when empty.
        spans: a record in one of these; anywhere when empty.
    """

    reasons: frozenset[str] = frozenset()
    spans: tuple[OffsetSpan, ...] = ()

    def __contains__(self, letter: DeadLetter) -> bool:
        if self.reasons and letter.reason not in self.reasons:
            return False
        place = letter.record
        return not self.spans or any(
            span.partition == place.partition and span.first <= place.offset <= span.last for span in self.spans
        )


def parse_selection(reasons: Sequence[str] | None, records: Sequence[str] | None) -> Selection:
    """From `--reason` and `--record PARTITION:OFFSET[..OFFSET]`.

    Raises:
        ConfigError: names what cannot be understood.
    """
    unknown = sorted(set(reasons or ()) - set(InvalidRecord.REASONS))
    if unknown:
        raise ConfigError("--reason", f"{unknown[0]!r} is not one of {', '.join(InvalidRecord.REASONS)}")
    return Selection(frozenset(reasons or ()), tuple(_parse_span(text) for text in records or ()))


def _parse_span(text: str) -> OffsetSpan:
    match = _SPAN.match(text)
    if match is None:
        raise ConfigError("--record", f"expects PARTITION:OFFSET or PARTITION:FIRST..LAST, got {text!r}")
    first = int(match[2])
    return OffsetSpan(int(match[1]), first, int(match[3] or first))
