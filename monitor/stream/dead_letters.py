"""Dead letters: records that could not be scored, unchanged, with where they stood and why in the headers."""

from __future__ import annotations

import hashlib

from monitor.errors import InvalidRecord
from monitor.stream.records import Record
from monitor.stream.sink import Message


def dead_letter(record: Record, reason: InvalidRecord, topic: str) -> Message:
    """The message for one invalid record.

    Headers: `topic`, `partition`, `offset`, `timestamp` (milliseconds), `reason`, `detail`; `null_value` when the record had
    no value at all; the record's own headers behind them as `original.<name>`.

    Args:
        record: as it came.
        reason: why it is invalid.
        topic: where dead letters go.
    """
    headers = [
        ("topic", record.topic.encode()),
        ("partition", str(record.partition).encode()),
        ("offset", str(record.offset).encode()),
        ("timestamp", str(record.timestamp).encode()),
        ("reason", reason.reason.encode()),
        ("detail", reason.detail.encode(errors="replace")),
    ]
    if record.value is None:
        headers.append(("null_value", b"true"))
    headers += [(f"original.{name}", content) for name, content in record.headers if content is not None]
    return Message(topic, record.key, record.value or b"", record.partition, tuple(headers), shrink=_truncated)


def _truncated(message: Message) -> Message:
    """The same without its value, its key and its own headers, which may be what makes it too large."""
    ours = tuple(header for header in message.headers if not header[0].startswith("original."))
    facts = (
        ("truncated", b"true"),
        ("size", str(len(message.value)).encode()),
        ("sha256", hashlib.sha256(message.value).hexdigest().encode()),
    )
    return Message(message.topic, None, b"", message.lane, ours + facts)
