"""`ganwatch dead-letters` on a real Kafka: what a daemon could not score is listed, repaired, sent back and scored."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest

from tests.broker.conftest import Stream
from tests.machines import as_json, readings
from tests.terminal import Terminal, flags_of, terminal_in
from tests.topics import headers_of, publish, read_all

pytestmark = pytest.mark.broker

GOOD = as_json(readings(40, seed=8))
BAD = [b"{", b'{"pieces": "many"}', b'{"load": 1.0}', b"\xff\xfe", b'{"load": 2.0}']


@pytest.fixture
def terminal(stream: Stream, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    with terminal_in(stream.folder, capsys, monkeypatch) as terminal:
        terminal.flags = flags_of(stream.settings(max_invalid_ratio=1))
        yield terminal


def let_die(stream: Stream, values: list[bytes]) -> None:
    """Has a daemon read records of one key, and waits until it is done with them."""
    publish(stream.kafka.bootstrap, stream.features, [*values], key=b"m7")
    with stream.daemon(max_invalid_ratio=1) as daemon:
        daemon.wait_until_done(len(values))


def test_dead_letters_are_listed_by_reason_and_place(terminal: Terminal, stream: Stream) -> None:
    let_die(stream, [*GOOD, *BAD])
    out = terminal.run("dead-letters", "list").out
    assert out.splitlines()[-1] == (
        f"5 dead letters in {stream.dead_letters}: missing_field 2, not_json 1, wrong_type 1, not_utf8 1"
    )
    assert '{"pieces": "many"}' in out
    assert f"{stream.features}/0/40" in out
    lines = terminal.run("dead-letters", "list", "--json").json_lines
    assert [(line["partition"], line["offset"]) for line in lines] == [(0, 40), (0, 41), (0, 42), (0, 43), (0, 44)]
    assert [line["reason"] for line in lines] == [
        "not_json",
        "wrong_type",
        "missing_field",
        "not_utf8",
        "missing_field",
    ]
    assert lines[3]["first_bytes"] == "\\xff\\xfe"
    assert (lines[0]["key"], lines[0]["size"], lines[0]["truncated"]) == ("m7", 1, False)
    one = terminal.run("dead-letters", "list", "--json", "--reason", "missing_field", "--last", "1").json
    assert one["offset"] == 44
    assert terminal.run("dead-letters", "list", "--json", "--record", "0:41..42", "--reason", "not_json").out == ""
    assert terminal.run("dead-letters", "list", "--json", "--since", "2050-01-01").out == ""
    assert len(terminal.run("dead-letters", "list", "--json", "--since", "1h").json_lines) == 5
    hidden = terminal.run("dead-letters", "list", "--last", "2").out.splitlines()
    assert hidden[-1] == "3 older ones are not shown; --last N shows more"


def test_an_empty_topic_has_no_letters_and_a_missing_one_is_an_error(terminal: Terminal, stream: Stream) -> None:
    outcome = terminal.run("dead-letters", "list")
    assert (outcome.code, outcome.out) == (0, f"0 dead letters in {stream.dead_letters}\n")
    outcome = terminal.run("dead-letters", "list", "--dead-letters-topic", "absent")
    assert (outcome.code, outcome.err) == (5, f"ganwatch: Kafka at {stream.kafka.bootstrap}: no topic 'absent'\n")


def test_repaired_records_go_back_and_are_scored(terminal: Terminal, stream: Stream) -> None:
    let_die(stream, [*GOOD, *BAD])
    listed = terminal.run("dead-letters", "list", "--json", "--values", "--reason", "missing_field").json_lines
    for line, value in zip(listed, (GOOD[0], GOOD[1]), strict=True):
        line["value"] = value.decode()
    repaired = stream.folder / "repaired.jsonl"
    repaired.write_text("\n".join(json.dumps(line) for line in listed))
    flags = ("dead-letters", "requeue", "--repaired", str(repaired))
    assert terminal.run(*flags, "--json").json == {
        "sent": 0,
        "would_send": 2,
        "by_reason": {"missing_field": 2},
        "left": {"not repaired": 3},
        "still_invalid": {},
        "repairs_without_letter": [],
    }
    assert len(read_all(stream.kafka.bootstrap, stream.features)) == 45
    outcome = terminal.run(*flags, "--yes")
    assert outcome.out.splitlines()[0] == f"sent 2 records back to {stream.features} (missing_field 2)"
    back = read_all(stream.kafka.bootstrap, stream.features)[45:]
    assert [(record.key, record.value) for record in back] == [(b"m7", GOOD[0]), (b"m7", GOOD[1])]
    assert headers_of(back[0]) == {
        "requeued_from": f"{stream.dead_letters}/0/2",
        "requeued_record": f"{stream.features}/0/42",
    }
    with stream.daemon() as daemon:
        daemon.wait_until_done(2)
        assert daemon.metrics()["ganwatch_records_scored_total"] == 2
    assert len(read_all(stream.kafka.bootstrap, stream.dead_letters)) == 5


def test_records_that_would_die_again_are_left_unless_they_are_asked_for(terminal: Terminal, stream: Stream) -> None:
    let_die(stream, BAD)
    flags = ("dead-letters", "requeue", "--yes", "--json")
    answer = terminal.run(*flags).json
    assert (answer["sent"], answer["left"]) == (0, {"still invalid": 5})
    assert answer["still_invalid"] == {"not_json": 1, "wrong_type": 1, "missing_field": 2, "not_utf8": 1}
    assert terminal.run(*flags, "--even-invalid", "--reason", "not_json").json["sent"] == 1
    assert read_all(stream.kafka.bootstrap, stream.features)[-1].value == b"{"
    with stream.daemon(max_invalid_ratio=1) as daemon:
        daemon.wait_until_done(1)
    again = terminal.run("dead-letters", "list", "--json", "--last", "1").json
    assert (again["offset"], again["reason"], again["requeued_from"]) == (5, "not_json", f"{stream.dead_letters}/0/0")


def test_records_refused_by_an_old_schema_go_back_as_they_were_once_it_is_mended(
    terminal: Terminal, stream: Stream
) -> None:
    whole = msgspec.json.decode(GOOD[0], type=dict[str, msgspec.Raw])
    incomplete = msgspec.json.encode({name: value for name, value in whole.items() if name != "pieces"})
    let_die(stream, [incomplete])
    flags = ("dead-letters", "requeue", "--yes", "--json")
    assert terminal.run(*flags).json["sent"] == 0
    schema = stream.folder / "features.toml"
    schema.write_text(schema.read_text().replace(', missing = "reject"', ""))
    assert terminal.run(*flags).json["sent"] == 1
    assert read_all(stream.kafka.bootstrap, stream.features)[-1].value == incomplete


def test_only_letters_of_the_own_features_topic_go_back(terminal: Terminal, stream: Stream) -> None:
    let_die(stream, BAD[:2])
    outcome = terminal.run("dead-letters", "requeue", "--yes", "--even-invalid", "--features-topic", "another")
    assert outcome.code == 0
    assert outcome.out.splitlines() == ["sent 0 records back to another", "left 2 of another topic"]
