"""The verdict on one column of a sample, and the words it is given in. It judges nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import polars as pl

from monitor.model.columns import shorten
from monitor.model.schema import Kind

Verdict = Literal[
    "numeric", "categorical", "boolean", "array",  # features
    "id", "key", "timestamp",  # bookkeeping, one of each is adopted
    "label", "counter", "constant", "free_text", "empty", "unsupported", "ambiguous_time", "bad_name",
]  # fmt: skip
StampFormat = Literal["iso8601", "epoch_s", "epoch_ms"]

FEW_ROWS = 20  # with fewer rows "always the same" and "never twice the same" say nothing
MAX_CATEGORIES = 100
MAX_CODES = 20  # whole numbers or text named like an id are categories only up to here
ID_SHARE = 0.95  # an id is this nearly unique
REPEATS = 3  # a category comes back this often on average
_SHOWN_VALUES = 5
_ID_WORDS = {"id", "uuid", "guid", "identifier", "rowid"}
_ID_GLUED = re.compile(r"(user|device|session|customer|account|transaction|order|event|record|card|client|machine)id$")


@dataclass(frozen=True)
class Finding:
    """The verdict on one column.

    Attributes:
        column: its name; the dotted path of the field.
        verdict: what it is.
        reason: a sentence with the numbers that led to the verdict; never holds a value of an id, a key or free text.
        null_share: share of the rows without a value, 0 to 1.
        kind: what it would be as a feature; None when it cannot be one.
        shape: of an array that can be one; None otherwise.
        stamp: how it says the time; None when it does not, or not in a way that the schema knows.
        naive: whether its stamps carry no time zone.
    """

    column: str
    verdict: Verdict
    reason: str
    null_share: float = 0.0
    kind: Kind | None = None
    shape: tuple[int, ...] | None = None
    stamp: StampFormat | None = None
    naive: bool = False

    @property
    def is_feature(self) -> bool:
        """Whether the column becomes a feature."""
        return self.verdict in ("numeric", "categorical", "boolean", "array")


def name_words(name: str) -> list[str]:
    """The lower-case words of a field's own name: `meta.cardId` → card, id."""
    own = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name.rsplit(".", 1)[-1])
    return [word for word in re.split(r"[^a-z0-9]+", own.lower()) if word]


def is_named_id(name: str) -> bool:
    """Whether a field is named like the identifier of something."""
    words = name_words(name)
    return not _ID_WORDS.isdisjoint(words) or any(_ID_GLUED.search(word) for word in words)


def spread(values: pl.Series, distinct: int) -> str:
    """`812 different values, 12.3 rows each on average`."""
    return f"{distinct} different values, {len(values) / distinct:.1f} rows each on average"


def frequent(values: pl.Series) -> str:
    """`3 values: 'tcp' 77.4 %, 'udp' 20.1 %, 'icmp' 2.5 %`."""
    distinct = values.n_unique()
    top = ", ".join(f"{shown(value)} {percent(share)}" for value, share in most_frequent(values, _SHOWN_VALUES))
    return f"{distinct} value{'s' if distinct > 1 else ''}: {top}{', …' if distinct > _SHOWN_VALUES else ''}"


def most_frequent(values: pl.Series, count: int) -> list[tuple[object, float]]:
    """Values and their shares, the most frequent first, ties in order of value."""
    table = values.rename("value").value_counts().sort(["count", "value"], descending=[True, False]).head(count)
    return [(value, times / len(values)) for value, times in table.iter_rows()]


def shown(value: object) -> str:
    """One value as it may stand in a comment."""
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else shorten(value)


def number(value: float) -> str:
    """Whole numbers in full, others with six digits."""
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def percent(share: float) -> str:
    """A share between 0 and 1; one that is not quite none or all is never shown as such."""
    if 0.0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1.0:
        return "> 99.9 %"
    return f"{100 * share:.3g} %"


def rows(count: int) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} row" if count == 1 else f"{count} rows"
