"""The outcomes as a Markdown table and as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.faults.outcome import Outcome

HEADER = "| # | fault | L | D | R | Q | T | verdict |\n|---|---|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Played:
    """A row that was played.

    Attributes:
        number: in the table.
        fault: in a few words.
        seed: of its random choices.
        seconds: it took.
        outcome: None when it ended with an error.
        error: that error, in one line.
    """

    number: int
    fault: str
    seed: int
    seconds: float
    outcome: Outcome | None
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether the pass condition held."""
        return self.outcome is not None and self.outcome.passed

    @property
    def verdict(self) -> str:
        """In words, with what else is worth knowing."""
        if self.outcome is None:
            return f"**failed**: {self.error}"
        if not self.passed:
            return (
                f"**failed**: not so: {'; '.join(self.outcome.missed) or 'nothing was demanded'}. {self.outcome.notes}"
            )
        return f"passed: {self.outcome.notes}" if self.outcome.notes else "passed"


def markdown(rows: Sequence[Played]) -> str:
    """L = lost, D = duplicates, R = reordered, Q = dead letters, T = seconds to recover."""
    return "\n".join([HEADER, *map(markdown_row, rows)])


def markdown_row(row: Played) -> str:
    """One line of the table; messages that were sent again under the same id stand in brackets."""
    cells = [str(row.number), row.fault, *_numbers(row.outcome), row.verdict.replace("|", "/").replace("\n", " ")]
    return f"| {' | '.join(cells)} |"


def _numbers(outcome: Outcome | None) -> list[str]:
    delivered = outcome.delivered if outcome else None
    recover_s = outcome.recover_s if outcome else None
    seconds = "–" if recover_s is None else f"{recover_s:.1f} s"
    if delivered is None:
        return ["–", "–", "–", "–", seconds]
    again = f" ({delivered.repeated})" if delivered.repeated else ""
    return [
        str(delivered.lost),
        f"{delivered.duplicates}{again}",
        str(delivered.reordered),
        str(delivered.dead_letters),
        seconds,
    ]


def figures(rows: Sequence[Played], seconds: float) -> dict[str, float]:
    """What the last line says; where several seeds give a figure, their sum."""
    numbers = {row.number for row in rows}
    found: dict[str, float] = {
        "rows_passed": sum(all(row.passed for row in rows if row.number == number) for number in numbers),
        "rows_total": len(numbers),
        "seeds": len({row.seed for row in rows}),
        "seconds": round(seconds),
    }
    for row in rows:
        for name, value in (row.outcome.figures if row.outcome else _NONE).items():
            found[name] = round(found.get(name, 0) + value, 4)
    return found


_NONE: Mapping[str, float] = {}
