"""Dead letters for people and for programs."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from monitor.dead_letters.letters import DeadLetter
from monitor.dead_letters.requeue import Plan

FIRST_BYTES = 60


def print_letters(console: Console, letters: Sequence[DeadLetter], found: Counter[str], topic: str) -> None:
    """The latest letters, oldest first, and how many there are of each reason."""
    if letters:
        table = Table(
            "record", "reason", "since (UTC)", "bytes", "begins with", "detail", title=f"dead letters in {topic}"
        )
        for letter in letters:
            table.add_row(
                str(letter.record),
                letter.reason,
                stamp(letter.dead_since_ms)[:19].replace("T", " "),
                f"{letter.size:,}{' truncated' if letter.truncated else ''}",
                _beginning(letter),
                letter.detail,
            )
        console.print(table)
    hidden = found.total() - len(letters)
    counts = ", ".join(f"{reason} {count:,}" for reason, count in found.most_common())
    console.print(f"{found.total():,} dead letters in {topic}{f': {counts}' if counts else ''}")
    if letters and hidden:
        console.print(f"{hidden:,} older ones are not shown; --last N shows more")


def as_json(letter: DeadLetter, *, with_value: bool) -> dict[str, Any]:
    """One letter for programs; with its value it is a line that `requeue --repaired` takes."""
    entry: dict[str, Any] = {
        "topic": letter.record.topic,
        "partition": letter.record.partition,
        "offset": letter.record.offset,
        "timestamp": stamp(letter.timestamp_ms),
        "reason": letter.reason,
        "detail": letter.detail,
        "dead_since": stamp(letter.dead_since_ms),
        "letter": {"topic": letter.place.topic, "partition": letter.place.partition, "offset": letter.place.offset},
        "key": None if letter.key is None else letter.key.decode(errors="replace"),
        "size": letter.size,
        "truncated": letter.truncated,
        "requeued_from": letter.requeued_from,
        "first_bytes": _beginning(letter),
    }
    return entry | (_whole_value(letter) if with_value else {})


def _whole_value(letter: DeadLetter) -> dict[str, str | None]:
    """As text, or in base 64 where it is none; null where there is none."""
    if letter.value is None:
        return {"value": None}
    try:
        return {"value": letter.value.decode()}
    except UnicodeDecodeError:
        return {"value": None, "value_base64": base64.b64encode(letter.value).decode()}


def _beginning(letter: DeadLetter) -> str:
    """The first bytes of the value, made printable."""
    if letter.value is None:
        return ""
    text = letter.value[:FIRST_BYTES].decode(errors="backslashreplace")
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def stamp(milliseconds: int) -> str:
    """`2026-01-31T12:00:00.000Z`; empty where Kafka knows no time."""
    if milliseconds < 0:
        return ""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plan_as_json(plan: Plan, *, sent: bool) -> dict[str, Any]:
    """Counts of `requeue` for programs."""
    return {
        "sent": plan.sent.total() if sent else 0,
        "would_send": 0 if sent else plan.sent.total(),
        "by_reason": dict(plan.sent),
        "left": dict(plan.left),
        "still_invalid": dict(plan.still_invalid),
        "repairs_without_letter": [{"partition": place[0], "offset": place[1]} for place in plan.unmatched],
    }


def print_plan(console: Console, plan: Plan, *, sent: bool) -> None:
    """Counts of `requeue` for people."""
    topic = plan.settings.features_topic
    verb = "sent" if sent else "would send"
    console.print(f"{verb} {plan.sent.total():,} records back to {topic}{_counts(plan.sent)}")
    for why, count in plan.left.items():
        again = _counts(plan.still_invalid) if why == "still invalid" else ""
        console.print(f"left {count:,} {why}{again}")
    if plan.unmatched:
        shown = ", ".join(f"{partition}:{offset}" for partition, offset in plan.unmatched[:10])
        console.print(f"{len(plan.unmatched):,} repairs have no dead letter: {shown}")
    if not sent and plan.sent:
        console.print("nothing was sent; --yes sends them")


def _counts(counts: Counter[str]) -> str:
    return f" ({', '.join(f'{name} {count:,}' for name, count in counts.most_common())})" if counts else ""
