"""Dead letters read back, and the choice of those that are sent again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from monitor.dead_letters.letters import DeadLetter, Place, parse_letter
from monitor.dead_letters.repairs import read_repairs
from monitor.dead_letters.requeue import Plan, headers_back, rehearse
from monitor.dead_letters.selection import Selection, parse_selection
from monitor.dead_letters.view import as_json
from monitor.errors import ConfigError, InvalidRecord
from monitor.model.decode import Decoder
from monitor.settings import Settings
from monitor.stream.dead_letters import dead_letter
from monitor.stream.records import Record
from tests.machines import SCHEMA, readings
from tests.machines import as_json as readings_as_json

GOOD = readings_as_json(readings(2, seed=1))[0]


@dataclass(frozen=True)
class Received:
    """What kafka-python's ConsumerRecord has of a message."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def letter_of(
    value: bytes | None,
    reason: str = "wrong_type",
    *,
    offset: int = 17,
    topic: str = "features",
    headers: Sequence[tuple[str, bytes | None]] = (),
    truncated: bool = False,
) -> DeadLetter:
    """What is read of the letter that the daemon writes for a record."""
    record = Record(topic, 2, offset, 1_700_000_000_000, b"m1", value, headers)
    message = dead_letter(record, InvalidRecord(reason, "a sentence"), "dead-letters")
    if truncated:
        assert message.shrink is not None
        message = message.shrink(message)
    letter = parse_letter(
        Received("dead-letters", 0, 1000 + offset, 1_700_000_001_000, message.key, message.value, message.headers)
    )
    assert letter is not None
    return letter


def plan(
    *, selection: Selection | None = None, repairs: dict[tuple[int, int], bytes] | None = None, checked: bool = True
) -> Plan:
    settings = Settings()  # type: ignore[call-arg]
    return Plan(settings, selection or Selection(), repairs, Decoder(SCHEMA, 2**20) if checked else None)


def test_a_letter_is_read_back_as_the_record_that_it_was() -> None:
    letter = letter_of(b"\xff{", "not_utf8", headers=[("trace", b"t1"), ("reason", b"theirs")])
    assert letter == DeadLetter(
        place=Place("dead-letters", 0, 1017),
        dead_since_ms=1_700_000_001_000,
        record=Place("features", 2, 17),
        timestamp_ms=1_700_000_000_000,
        reason="not_utf8",
        detail="a sentence",
        key=b"m1",
        value=b"\xff{",
        headers=(("trace", b"t1"), ("reason", b"theirs")),
        truncated=False,
        size=2,
    )


def test_a_record_without_a_value_is_not_one_with_an_empty_value() -> None:
    assert letter_of(None).value is None
    assert letter_of(b"").value == b""


def test_a_truncated_letter_says_how_large_the_record_was() -> None:
    letter = letter_of(b"x" * 5000, truncated=True)
    assert (letter.truncated, letter.size, letter.value, letter.key) == (True, 5000, None, None)


@pytest.mark.parametrize("headers", [[], [("topic", b"features")], [("topic", b"f"), ("partition", b"one")]])
def test_a_message_of_somebody_else_is_no_letter(headers: list[tuple[str, bytes | None]]) -> None:
    assert parse_letter(Received("dead-letters", 0, 1, 0, None, b"hello", headers)) is None


def test_headers_go_back_with_where_the_record_comes_from() -> None:
    letter = letter_of(GOOD, headers=[("trace", b"t1"), ("requeued_from", b"dead-letters/0/3")])
    assert letter.requeued_from == "dead-letters/0/3"
    assert headers_back(letter) == [
        ("trace", b"t1"),
        ("requeued_from", b"dead-letters/0/1017"),
        ("requeued_record", b"features/2/17"),
    ]


def test_only_what_can_be_scored_now_is_sent() -> None:
    rehearsal = plan()
    rehearse(rehearsal, [letter_of(GOOD, offset=1), letter_of(b"{", offset=2), letter_of(None, offset=3)])
    assert rehearsal.sent == {"wrong_type": 1}
    assert rehearsal.left == {"still invalid": 2}
    assert rehearsal.still_invalid == {"not_json": 1, "empty": 1}


def test_even_invalid_ones_are_sent_where_that_is_asked_for() -> None:
    rehearsal = plan(checked=False)
    rehearse(rehearsal, [letter_of(b"{", offset=2), letter_of(None, offset=3)])
    assert (rehearsal.sent.total(), rehearsal.left.total()) == (2, 0)


def test_a_truncated_letter_is_never_sent_not_even_repaired() -> None:
    for rehearsal in (plan(checked=False), plan(repairs={(2, 17): GOOD})):
        rehearse(rehearsal, [letter_of(GOOD, truncated=True)])
        assert (rehearsal.sent.total(), rehearsal.left) == (0, {"truncated": 1})


def test_a_letter_that_was_written_twice_is_sent_once() -> None:
    rehearsal = plan()
    rehearse(rehearsal, [letter_of(GOOD), letter_of(GOOD)])
    assert (rehearsal.sent.total(), rehearsal.left) == (1, {"repeated": 1})


def test_letters_of_another_topic_stay() -> None:
    rehearsal = plan()
    rehearse(rehearsal, [letter_of(GOOD, topic="orders")])
    assert (rehearsal.sent.total(), rehearsal.left) == (0, {"of another topic": 1})


def test_of_repairs_exactly_those_with_a_letter_are_sent() -> None:
    rehearsal = plan(repairs={(2, 1): GOOD, (2, 5): GOOD})
    chunks = list(rehearsal.chunks([letter_of(b"{", offset=1), letter_of(b"{", offset=2)]))
    assert [[record.value for record in chunk] for chunk in chunks] == [[GOOD]]
    assert rehearsal.left == {"not repaired": 1}
    assert rehearsal.unmatched == [(2, 5)]


@pytest.mark.parametrize(
    ("reasons", "records", "chosen"),
    [
        (None, None, [1, 2, 3]),
        (["not_json"], None, [2, 3]),
        (None, ["2:1..2"], [1, 2]),
        (None, ["2:1", "2:3"], [1, 3]),
        (["not_json"], ["2:1..2"], [2]),
        (None, ["0:1..9"], []),
    ],
)
def test_letters_are_chosen_by_reason_and_by_place(
    reasons: list[str] | None, records: list[str] | None, chosen: list[int]
) -> None:
    letters = [
        letter_of(b"[]", "wrong_type", offset=1),
        letter_of(b"{", "not_json", offset=2),
        letter_of(b"{", "not_json", offset=3),
    ]
    selection = parse_selection(reasons, records)
    assert [letter.record.offset for letter in letters if letter in selection] == chosen


@pytest.mark.parametrize(
    ("reasons", "records", "complaint"),
    [
        (["odd"], None, "--reason: 'odd' is not one of empty, not_utf8"),
        (None, ["17"], "--record: expects PARTITION:OFFSET or PARTITION:FIRST..LAST, got '17'"),
        (None, ["0:5.."], "--record: expects"),
    ],
)
def test_a_choice_that_cannot_be_understood_is_refused(
    reasons: list[str] | None, records: list[str] | None, complaint: str
) -> None:
    with pytest.raises(ConfigError) as error:
        parse_selection(reasons, records)
    assert str(error.value).startswith(complaint)


def test_repairs_keep_an_object_as_it_is_written_and_of_a_text_its_content(tmp_path: Path) -> None:
    file = tmp_path / "repaired.jsonl"
    file.write_text(
        '{"partition": 0, "offset": 1, "value": {"load": 0.10,  "n": 1e0}}\n\n'
        '{"topic": "features", "partition": 1, "offset": 2, "reason": "not_json", "value": "{\\"load\\": 1}"}\n'
    )
    assert read_repairs(file, "features") == {(0, 1): b'{"load": 0.10,  "n": 1e0}', (1, 2): b'{"load": 1}'}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "holds no lines"),
        ('{"partition": 0, "offset": 1}', 'line 1: expects {"partition": 0, "offset": 17, "value": …}'),
        ("\n[]", "line 2: expects"),
        ('{"partition": 0, "offset": 1, "value": 3}', "line 1: the value is neither a JSON object nor text"),
        ('{"partition": 0, "offset": 1, "value": null}', "line 1: the value is neither"),
        ('{"topic": "b", "partition": 0, "offset": 1, "value": "x"}', "line 1: is about topic 'b'"),
        ('{"partition": 0, "offset": 1, "value": "x"}\n' * 2, "line 2: repeats partition 0, offset 1"),
    ],
)
def test_a_line_that_is_no_repair_is_named(tmp_path: Path, content: str, complaint: str) -> None:
    file = tmp_path / "repaired.jsonl"
    file.write_text(content)
    with pytest.raises(ConfigError) as error:
        read_repairs(file, "features")
    assert complaint in str(error.value)


def test_what_is_printed_of_a_value_is_printable_and_short() -> None:
    shown = as_json(letter_of(b"\x1b[31m\xff\n" + b"x" * 100), with_value=False)
    assert shown["first_bytes"] == "\\x1b[31m\\xff\\n" + "x" * 53
    assert "value" not in shown


def test_a_value_that_is_no_text_is_given_in_base_64() -> None:
    assert as_json(letter_of(b"\xff\xfe"), with_value=True)["value_base64"] == "//4="
    assert as_json(letter_of("ü".encode()), with_value=True)["value"] == "ü"
    assert as_json(letter_of(None), with_value=True)["value"] is None
