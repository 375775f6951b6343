"""Dead letters as they stand in their topic, read back into what they were: a record, its place and the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from monitor.settings import Settings
from monitor.stream.topic_reader import TimeRange, iterate_topic

REQUEUED_FROM = "requeued_from"
REQUEUED_RECORD = "requeued_record"
_ORIGINAL = "original."


@dataclass(frozen=True, order=True)
class Place:
    """Where a message stands in Kafka."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True)
class DeadLetter:
    """One record that could not be scored.

    Attributes:
        place: of the letter.
        dead_since_ms: milliseconds since 1970 when it was written.
        record: where the record stood.
        timestamp_ms: the record's own.
        reason: one of `InvalidRecord.REASONS`.
        detail: a sentence.
        key: the record's; None when it had none, or when the letter is truncated.
        value: the record's, byte for byte; None when it had none, or when the letter is truncated.
        headers: the record's own.
        truncated: the record was too large for the topic; its value, key and headers are gone.
        size: bytes of the record's value.
    """

    place: Place
    dead_since_ms: int
    record: Place
    timestamp_ms: int
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    truncated: bool
    size: int

    @property
    def requeued_from(self) -> str | None:
        """The letter from which this record had been sent back before; None for most."""
        return next((content.decode(errors="replace") for name, content in self.headers if name == REQUEUED_FROM), None)


def read_letters(settings: Settings, window: TimeRange) -> Iterator[DeadLetter | None]:
    """All letters that were written within a time range; None for each message that is no dead letter of ours.

    Raises:
        BrokerError: the topic cannot be read.
    """
    return (parse_letter(message) for message in iterate_topic(settings.dead_letters_topic, settings, window=window))


def parse_letter(message: Any) -> DeadLetter | None:
    """What a message of the dead-letter topic says, or None when it was not written by ganwatch.

    Args:
        message: kafka-python's ConsumerRecord.
    """
    headers = [(name, content or b"") for name, content in message.headers]
    ours = {name: content.decode(errors="replace") for name, content in headers if not name.startswith(_ORIGINAL)}
    try:
        record = Place(ours["topic"], int(ours["partition"]), int(ours["offset"]))
        timestamp_ms, reason = int(ours["timestamp"]), ours["reason"]
        truncated = "truncated" in ours
        size = int(ours["size"]) if truncated else len(message.value or b"")
    except (KeyError, ValueError):
        return None
    return DeadLetter(
        place=Place(message.topic, message.partition, message.offset),
        dead_since_ms=message.timestamp,
        record=record,
        timestamp_ms=timestamp_ms,
        reason=reason,
        detail=ours.get("detail", ""),
        key=message.key,
        value=None if truncated or "null_value" in ours else message.value or b"",
        headers=tuple(
            (name.removeprefix(_ORIGINAL), content) for name, content in headers if name.startswith(_ORIGINAL)
        ),
        truncated=truncated,
        size=size,
    )
