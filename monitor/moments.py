"""Moments as people write them on a command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from monitor.errors import ConfigError

_AGE = re.compile(r"^(\d+(?:\.\d+)?)([smhd])$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_AGE_S = 100 * 366 * 86_400


def parse_moment(text: str, option: str) -> datetime:
    """An ISO 8601 time with its zone; a date alone is midnight UTC.

    Raises:
        ConfigError: names the option.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(option, f"{text!r} is not an ISO 8601 time such as 2026-01-31T12:00:00Z") from error
    if moment.tzinfo is not None:
        return moment
    if "T" in text or " " in text:
        raise ConfigError(option, f"{text!r} has no time zone; append Z or an offset such as +02:00")
    return moment.replace(tzinfo=UTC)


def parse_since(text: str, option: str, now: datetime) -> datetime:
    """The same, or how long ago: `90s`, `15m`, `2h`, `7d`.

    Raises:
        ConfigError: it is neither.
    """
    age = _AGE.match(text)
    if age is None:
        return parse_moment(text, option)
    seconds = float(age[1]) * _SECONDS[age[2]]
    if seconds > _LONGEST_AGE_S:
        raise ConfigError(option, f"{text!r} is longer ago than any record")
    return now - timedelta(seconds=seconds)
