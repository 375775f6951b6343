"""The limit on bad records: exact over the last rows, whatever the micro-batches were."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.errors import InvalidRecord, TooManyInvalidRecords
from monitor.stream.invalid_window import InvalidWindow


def trips_at(outcomes: list[bool], sizes: list[int], *, window_rows: int, ratio: float) -> int | None:
    """Number of the first batch (of these sizes, then the rest) at which it gives up; None when it never does."""
    window, start = InvalidWindow(window_rows), 0
    for number, size in enumerate([*sizes, len(outcomes)]):
        part = outcomes[start : start + size]
        invalid = [(row, InvalidRecord("not_json", f"row {start + row}")) for row, bad in enumerate(part) if bad]
        start += len(part)
        try:
            window.check(len(part), invalid, topic="t", max_invalid_ratio=ratio)
        except TooManyInvalidRecords:
            return number
    return None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.booleans(), max_size=80),
    st.lists(st.integers(0, 30), max_size=8),
    st.integers(10, 30),
    st.floats(0.05, 1.0),
)
def test_it_trips_in_the_batch_in_which_any_window_holds_too_many(
    outcomes: list[bool], sizes: list[int], window_rows: int, ratio: float
) -> None:
    expected, start = None, 0
    for number, size in enumerate([*sizes, len(outcomes)]):
        ends = range(start + 1, min(start + size, len(outcomes)) + 1)
        if any(sum(outcomes[max(0, end - window_rows) : end]) > ratio * window_rows for end in ends):
            expected = number
            break
        start = min(start + size, len(outcomes))
    assert trips_at(outcomes, sizes, window_rows=window_rows, ratio=ratio) == expected


def test_exactly_the_ratio_is_allowed_and_one_more_is_not() -> None:
    assert trips_at([True] * 20 + [False] * 80, [], window_rows=100, ratio=0.2) is None
    assert trips_at([True] * 21 + [False] * 79, [], window_rows=100, ratio=0.2) == 0


def test_a_burst_within_one_batch_counts_although_the_batch_ends_well() -> None:
    assert trips_at([False] * 50 + [True] * 21 + [False] * 500, [], window_rows=100, ratio=0.2) == 0


def test_a_topic_of_nothing_but_bad_records_is_left_after_a_fraction_of_the_window() -> None:
    assert trips_at([True] * 1000, [50] * 20, window_rows=1000, ratio=0.2) == 4


def test_bad_records_that_left_the_window_are_forgotten() -> None:
    assert trips_at(([True] * 20 + [False] * 80) * 5, [7] * 80, window_rows=100, ratio=0.2) is None


def test_a_ratio_of_one_never_stops() -> None:
    assert trips_at([True] * 500, [13] * 50, window_rows=10, ratio=1.0) is None


def test_the_error_holds_the_figures_and_the_last_example() -> None:
    window = InvalidWindow(10)
    invalid = [(row, InvalidRecord("not_json", f"row {row}")) for row in (0, 2, 3)]
    with pytest.raises(TooManyInvalidRecords) as caught:
        window.check(5, invalid, topic="payments", max_invalid_ratio=0.2)
    error = caught.value
    assert (error.topic, error.invalid, error.window, error.max_invalid_ratio) == ("payments", 3, 10, 0.2)
    assert error.example.detail == "row 3"
