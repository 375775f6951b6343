"""What a column of text is: a time, an id, a key, a category, or free text."""

from __future__ import annotations

import re
from datetime import datetime

import polars as pl

from monitor.model.findings import (
    FEW_ROWS,
    ID_SHARE,
    MAX_CATEGORIES,
    MAX_CODES,
    REPEATS,
    Finding,
    frequent,
    is_named_id,
    percent,
    rows,
    shown,
    spread,
)

_WORDS_OF_PROSE = 4
_UUID = r"^\{?[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\}?$"
_ISO_STAMP = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?(Z|z|[+-]\d{2}(:?\d{2})?)?)?$"
_ISO_ZONE = r"[T ]\d{2}:\d{2}.*(Z|z|[+-]\d{2}(:?\d{2})?)$"
_OTHER_DATE = r"^\d{1,4}[./-]\d{1,2}[./-]\d{1,4}([ T,]|$)"
_QUOTED_NUMBER = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"


def judge_text(values: pl.Series, distinct: int) -> Finding:
    """Says what text is.

    Args:
        values: String, without nulls, at least one.
        distinct: how many different ones.
    """
    words = float(values.str.count_matches(r"\S+").mean() or 0.0)  # type: ignore[arg-type]
    return (
        _judge_stamps(values)
        or _judge_ids(values, distinct)
        or _judge_categories(values, distinct, words)
        or _judge_many_values(values, distinct, words)
    )


def _judge_ids(values: pl.Series, distinct: int) -> Finding | None:
    """UUIDs, and what is named like an id: one for each row, or one for each entity."""
    unique = distinct >= ID_SHARE * len(values)
    named = is_named_id(values.name) and distinct > (1 if unique else MAX_CODES)
    if not named and not values.str.contains(_UUID).all():
        return None
    if unique:
        return Finding("", "id", f"{distinct} different values in {rows(len(values))}", kind="categorical")
    return Finding("", "key", spread(values, distinct), kind="categorical")


def _judge_categories(values: pl.Series, distinct: int, words: float) -> Finding | None:
    """Few values that come back; in a small sample anything that is not prose."""
    comes_back = distinct * REPEATS <= len(values) or (len(values) < FEW_ROWS and words < _WORDS_OF_PROSE)
    if distinct <= MAX_CATEGORIES and comes_back:
        return Finding("", "categorical", frequent(values), kind="categorical")
    return None


def _judge_many_values(values: pl.Series, distinct: int, words: float) -> Finding:
    if words >= _WORDS_OF_PROSE:
        reason = f"{distinct} different texts of {words:.0f} words on average"
        return Finding("", "free_text", reason, kind="categorical")
    if values.str.contains(_QUOTED_NUMBER).all() and values.str.contains(r"[.eE]").any():
        return Finding("", "unsupported", f"{distinct} different numbers written as text; publish them without quotes")
    if distinct >= ID_SHARE * len(values):
        return Finding("", "id", f"{distinct} different values in {rows(len(values))}", kind="categorical")
    return Finding("", "key", f"{spread(values, distinct)}, too many for a category", kind="categorical")


def _judge_stamps(values: pl.Series) -> Finding | None:
    """ISO-8601 stamps, all with a zone or all without; other dates are refused, for 02/03 may be February or March."""
    like_stamps = int(values.str.contains(_ISO_STAMP).sum())
    if like_stamps < 0.9 * len(values):
        if values.str.contains(_OTHER_DATE).all() and values.str.contains(r"\d{4}|[./].*[./]").all():
            return Finding(
                "", "unsupported", "dates, but not ISO-8601 (2026-02-28T12:00:00Z): day and month cannot be told apart"
            )
        return None
    stamps = {text: _parse_stamp(text) for text in values.unique(maintain_order=True)}
    if broken := [text for text, stamp in stamps.items() if stamp is None]:
        reason = f"ISO-8601 stamps, but {len(broken)} of them are broken, such as {shown(broken[0])}"
        return Finding("", "unsupported", reason)
    zoned = int(values.str.contains(_ISO_ZONE).sum())
    if 0 < zoned < len(values):
        mixture = f"{percent(zoned / len(values))} of the stamps carry a time zone, the others do not"
        return Finding("", "ambiguous_time", f"{mixture}, so they have no order; publish all with one")
    times = [stamp for stamp in stamps.values() if stamp is not None]
    first, last = (edge.isoformat(" ", "seconds") for edge in (min(times), max(times)))
    return Finding("", "timestamp", f"ISO-8601 stamps from {first} to {last}", stamp="iso8601", naive=not zoned)


def _parse_stamp(text: str) -> datetime | None:
    """The time, naive or not; None for what is not a stamp."""
    if re.match(_ISO_STAMP, text) is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
