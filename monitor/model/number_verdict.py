"""What a column of numbers is: a feature, a code, an id, a time, or a counter."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import polars as pl

from monitor.model.findings import (
    FEW_ROWS,
    ID_SHARE,
    MAX_CATEGORIES,
    MAX_CODES,
    REPEATS,
    Finding,
    StampFormat,
    frequent,
    is_named_id,
    most_frequent,
    name_words,
    number,
    percent,
    rows,
    spread,
)

_CODE_WORDS = {"code", "zip", "postcode", "postal", "mcc", "category", "type", "status", "kind"}
_COUNT_WORDS = {"num", "n", "count", "counts", "number"}
_TIME_WORDS = {"time", "timestamp", "ts", "date", "datetime", "at", "epoch", "when", "created", "updated"}
_YEAR_2000, _YEAR_2100, _TEN_YEARS = 946_684_800, 4_102_444_800, 315_576_000  # seconds since 1970
_EPOCHS: tuple[tuple[int, StampFormat | None, str], ...] = (
    (1, "epoch_s", "seconds"),
    (10**3, "epoch_ms", "milliseconds"),
    (10**6, None, "microseconds"),
    (10**9, None, "nanoseconds"),
)


def judge_numbers(values: pl.Series, distinct: int) -> Finding:
    """Says what numbers are.

    Args:
        values: any numeric type, without nulls, at least one.
        distinct: how many different ones.
    """
    numbers = values.cast(pl.Float64)
    if infinite := int(numbers.is_infinite().sum()):
        return Finding(
            "", "unsupported", f"infinite in {rows(infinite)}, which JSON cannot carry; leave such values empty"
        )
    whole = bool((numbers == numbers.floor()).all())
    finding = _judge_epoch(numbers, whole=whole)
    if finding is None and whole:
        finding = _judge_codes(values, distinct)
    return (
        finding
        or _judge_counter(numbers, distinct)
        or Finding("", "numeric", _describe_numbers(numbers, distinct, whole=whole), kind="numeric")
    )


def _judge_epoch(numbers: pl.Series, *, whole: bool) -> Finding | None:
    """Seconds or milliseconds since 1970: between 2000 and 2100, named like a time or rising within ten years."""
    low, high = _extremes(numbers)
    named = not _TIME_WORDS.isdisjoint(name_words(numbers.name))
    for scale, stamp, unit in _EPOCHS:
        if not (_YEAR_2000 * scale <= low and high <= _YEAR_2100 * scale):
            continue
        enough = len(numbers) >= FEW_ROWS or scale > 1  # thirteen digits are hardly anything else
        rising = enough and float((numbers.diff().drop_nulls() >= 0).mean() or 0.0) >= ID_SHARE  # type: ignore[arg-type]
        if not named and not (whole and rising and high - low <= _TEN_YEARS * scale and not is_named_id(numbers.name)):
            continue
        first, last = (datetime.fromtimestamp(edge / scale, UTC).isoformat(" ", "seconds")[:19] for edge in (low, high))
        if stamp is None:
            return Finding(
                "", "unsupported", f"{unit} since 1970, which no timestamp format covers; publish milliseconds"
            )
        return Finding("", "timestamp", f"{unit} since 1970: {first} … {last} UTC", kind="numeric", stamp=stamp)
    return None


def _judge_codes(values: pl.Series, distinct: int) -> Finding | None:
    """Whole numbers that name something: their size means nothing, so they are no numeric feature."""
    if is_named_id(values.name):
        if distinct >= ID_SHARE * len(values) and len(values) > 1:
            return Finding(
                "",
                "id",
                f"{distinct} different whole numbers in {rows(len(values))}, named like an id",
                kind="numeric",
            )
        if distinct > MAX_CODES:
            return Finding("", "key", f"{spread(values, distinct)}, named like an id", kind="categorical")
        return Finding(
            "", "categorical", f"whole numbers named like an id, so codes: {frequent(values)}", kind="categorical"
        )
    coded = not _CODE_WORDS.isdisjoint(name_words(values.name)) and set(values.unique().to_list()) - {0, 1}
    if coded and distinct <= MAX_CATEGORIES and distinct * REPEATS <= len(values):
        return Finding("", "categorical", f"whole numbers named like a code: {frequent(values)}", kind="categorical")
    return None


def _judge_counter(numbers: pl.Series, distinct: int) -> Finding | None:
    """Numbers that only ever rise (or fall): tomorrow's lie outside of all that training saw."""
    if distinct < FEW_ROWS or len(numbers) < FEW_ROWS:
        return None
    steps = numbers.diff().drop_nulls()
    direction = "falls" if bool((steps >= 0).all()) else "rises" if bool((steps <= 0).all()) else None
    if direction is None:
        return None
    low, high = (number(edge) for edge in _extremes(numbers))
    if distinct == len(numbers) and bool((numbers == numbers.floor()).all()):
        return Finding(
            "", "id", f"whole numbers, never twice the same, in strict order ({low} … {high})", kind="numeric"
        )
    reason = f"never {direction} from row to row ({low} … {high}): a clock, a running total or the order of the file"
    return Finding("", "counter", reason, kind="numeric")


def _describe_numbers(numbers: pl.Series, distinct: int, *, whole: bool) -> str:
    if whole and distinct == 2 and set(numbers.unique()) == {0.0, 1.0}:
        ones = percent(float(numbers.mean() or 0.0))  # type: ignore[arg-type]
        return f"1 in {ones} of the rows, otherwise 0; numeric, since a boolean field holds true or false"
    low, high = (number(edge) for edge in _extremes(numbers))
    middle = cast(float, numbers.quantile(0.5, "lower"))  # the mean of two may overflow
    text = f"{low} … {high}, median {number(middle)}"
    top, share = most_frequent(numbers, 1)[0]
    if share >= 0.5 and distinct > 1:
        text += f"; {number(float(cast(float, top)))} in {percent(share)} of the rows"
    if whole and 2 < distinct <= 10 and len(numbers) >= FEW_ROWS and _COUNT_WORDS.isdisjoint(name_words(numbers.name)):
        text += f"; {distinct} different whole numbers: make it categorical if they are codes"
    return text


def _extremes(numbers: pl.Series) -> tuple[float, float]:
    return cast(float, numbers.min()), cast(float, numbers.max())
