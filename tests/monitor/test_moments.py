"""Moments as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from monitor.errors import ConfigError
from monitor.moments import parse_moment, parse_since

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01T12:00:00Z", NOON),
        ("2026-03-01 12:00:00.5+02:00", datetime(2026, 3, 1, 12, 0, 0, 500_000, timezone(timedelta(hours=2)))),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_time_has_a_zone_and_a_date_is_midnight_utc(text: str, moment: datetime) -> None:
    assert parse_moment(text, "--from") == moment


@pytest.mark.parametrize("text", ["2026-03-01T12:00:00", "yesterday", "", "2026-13-01"])
def test_anything_else_is_refused_by_the_name_of_its_option(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--from: '"):
        parse_moment(text, "--from")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("1.5h", 5400), ("7d", 604_800)])
def test_an_age_counts_back_from_now(text: str, seconds: int) -> None:
    assert parse_since(text, "--since", NOON) == NOON - timedelta(seconds=seconds)


def test_since_takes_a_time_as_well() -> None:
    assert parse_since("2026-02-01T00:00:00Z", "--since", NOON) == datetime(2026, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["7w", "-1d", "99999999d", "d"])
def test_an_age_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--since"):
        parse_since(text, "--since", NOON)
