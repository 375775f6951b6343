"""Errors: the type says what happens next, the message says what, where and what was expected."""

from __future__ import annotations

import pytest

from monitor import errors
from monitor.errors import (
    BrokerError,
    BundleError,
    ConfigError,
    GanwatchError,
    InvalidRecord,
    TooManyInvalidRecords,
)

EXAMPLE = InvalidRecord("wrong_type", "Expected `float`, got `str` - at `amount`")
EXIT_CODES = {
    GanwatchError: 1,
    ConfigError: 2,
    TooManyInvalidRecords: 3,
    BundleError: 4,
    BrokerError: 5,
    InvalidRecord: 1,
}


def all_errors() -> list[type[GanwatchError]]:
    return [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, GanwatchError)]


def test_every_error_has_its_exit_code() -> None:
    assert {error: error.exit_code for error in all_errors()} == EXIT_CODES


def test_the_tree_in_the_docstring_lists_every_error() -> None:
    for error in all_errors():
        assert error.__name__ in (errors.__doc__ or "")


def test_configuration_problems_stand_in_one_line_behind_their_place() -> None:
    error = ConfigError("settings", ["max_rows: too small", "unknown key 'x'"])
    assert str(error) == "settings: max_rows: too small; unknown key 'x'"
    assert (error.where, error.problems) == ("settings", ("max_rows: too small", "unknown key 'x'"))
    assert ConfigError("--set", "one").problems == ("one",)


def test_a_bundle_error_says_what_was_expected_and_found() -> None:
    error = BundleError("m/golden.npz", "differs", expected=1, found=None)
    assert str(error) == "m/golden.npz: differs (expected 1, found None)"
    assert str(BundleError("m/golden.npz", "is missing")) == "m/golden.npz: is missing"


def test_a_broker_error_says_which_broker() -> None:
    assert str(BrokerError("a:9092,b:9092", "no topic 'x'")) == "Kafka at a:9092,b:9092: no topic 'x'"


def test_too_many_invalid_records_gives_figures_an_example_and_the_remedy() -> None:
    error = TooManyInvalidRecords(topic="payments", invalid=201, window=1000, max_invalid_ratio=0.2, example=EXAMPLE)
    assert str(error) == (
        "topic 'payments': 201 of the last 1000 records are invalid, more than max_invalid_ratio = 0.2 allows; the last one: "
        "wrong_type: Expected `float`, got `str` - at `amount`. Compare features.toml with the records "
        "(`ganwatch init --from payments`); the offsets of this batch were not committed"
    )


def test_an_invalid_record_has_a_reason_of_the_closed_set() -> None:
    assert str(EXAMPLE) == "wrong_type: Expected `float`, got `str` - at `amount`"
    assert EXAMPLE.reason in InvalidRecord.REASONS
    assert len(set(InvalidRecord.REASONS)) == len(InvalidRecord.REASONS)


@pytest.mark.parametrize("error", [ConfigError("a", "b"), BundleError("a", "b"), BrokerError("a", "b"), EXAMPLE])
def test_every_message_is_one_line(error: GanwatchError) -> None:
    assert "\n" not in str(error)
