"""Repaired values from a file of JSON lines: each says where the record stood and what it should have been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from monitor.errors import ConfigError


class _Line(msgspec.Struct):
    """One line; what `ganwatch dead-letters list --json --values` prints is one, too."""

    partition: int
    offset: int
    value: msgspec.Raw
    topic: str | None = None


def read_repairs(file: Path, topic: str) -> dict[tuple[int, int], bytes]:
    """The new value by the record's partition and offset.

    Args:
        file: lines of `{"partition": 0, "offset": 17, "value": …}`, where the value is the record as a JSON object or as text.
        topic: which the records stood in; lines that name another one are refused.

    Raises:
        ConfigError: the file cannot be read, or a line is not as above; names the line.
    """
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"--repaired {file}", f"cannot be read: {error.strerror}") from error
    repairs: dict[tuple[int, int], bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"--repaired {file}, line {number}"
        parsed = _parse(line, where)
        place = (parsed.partition, parsed.offset)
        if parsed.topic not in {None, topic}:
            raise ConfigError(where, f"is about topic {parsed.topic!r}, but features_topic is {topic!r}")
        if place in repairs:
            raise ConfigError(where, f"repeats partition {place[0]}, offset {place[1]}")
        repairs[place] = _value_of(parsed.value, where)
    if not repairs:
        raise ConfigError(f"--repaired {file}", "holds no lines")
    return repairs


def _parse(line: bytes, where: str) -> _Line:
    try:
        return msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(where, f'expects {{"partition": 0, "offset": 17, "value": …}}: {error}') from error


def _value_of(raw: msgspec.Raw, where: str) -> bytes:
    """An object as it is written there, to the last digit; of a text its content."""
    written = bytes(raw)
    content: Any = msgspec.json.decode(written)
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, dict):
        return written
    raise ConfigError(where, "the value is neither a JSON object nor text")
