"""The oracle of the fault table sees what is lost, repeated, out of order or wrong; a table with a failed row says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from monitor.model.bundle import Bundle
from tests.broker.conftest import Stream
from tests.conftest import Kafka
from tests.faults.__main__ import play
from tests.faults.oracle import compare
from tests.faults.outcome import Delivered, Outcome
from tests.faults.rows import ROWS, Row
from tests.faults.stage import furnish
from tests.faults.table import Played, figures, markdown
from tests.machines import as_json, readings
from tests.topics import publish, read_all

Change = Callable[[list[bytes]], Sequence[bytes]]


@pytest.fixture(scope="module")
def delivered(
    kafka: Kafka, tmp_path_factory: pytest.TempPathFactory, machines_bundle: Bundle
) -> tuple[Stream, list[bytes]]:
    """A stream through which a daemon has gone, and its alerts."""
    folder = furnish(tmp_path_factory.mktemp("oracle"))
    topics = [kafka.new_topic(stem) for stem in ("features", "alerts", "dead-letters")]
    stream = Stream(kafka, folder, *topics, "oracle")
    publish(kafka.bootstrap, stream.features, [*as_json(readings(300, seed=1, anomalies=20)), b"{"])
    with stream.daemon() as daemon:
        daemon.wait_until_done(301)
    return stream, [record.value for record in read_all(kafka.bootstrap, stream.alerts)]


@pytest.mark.broker
def test_what_a_daemon_delivers_is_as_expected(delivered: tuple[Stream, list[bytes]], machines_bundle: Bundle) -> None:
    stream, alerts = delivered
    found = compare(stream, machines_bundle)
    assert found == Delivered(
        alerts=len(alerts), dead_letters=1, lost=0, repeated=0, duplicates=0, reordered=0, wrong=0
    )
    assert all(found.exactly_once.values())
    assert len(alerts) > 15


def other_id(alert: bytes) -> bytes:
    return json.dumps(json.loads(alert) | {"id": "another"}).encode()


def other_score(alert: bytes) -> bytes:
    return json.dumps(json.loads(alert) | {"raw_score": 1.0}).encode()


@pytest.mark.broker
@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (lambda alerts: alerts[:-2], {"lost": 2}),
        (lambda alerts: [*alerts, alerts[3]], {"repeated": 1}),
        (lambda alerts: [*alerts, other_id(alerts[-1])], {"duplicates": 1}),
        (lambda alerts: [alerts[1], alerts[0], *alerts[2:]], {"reordered": 1}),
        (lambda alerts: [other_score(alerts[0]), *alerts[1:]], {"wrong": 1}),
        (lambda alerts: [*alerts, other_score(alerts[0])], {"wrong": 2, "repeated": 1}),
    ],
    ids=["lost", "repeated", "duplicate", "reordered", "wrong", "contradiction"],
)
def test_whatever_is_amiss_with_the_alerts_is_seen(
    delivered: tuple[Stream, list[bytes]], machines_bundle: Bundle, change: Change, seen: dict[str, int]
) -> None:
    stream, alerts = delivered
    topic = stream.kafka.new_topic("alerts")
    publish(stream.kafka.bootstrap, topic, change(alerts))
    changed = Stream(stream.kafka, stream.folder, stream.features, topic, stream.dead_letters, stream.group)
    found = compare(changed, machines_bundle)
    sound = Delivered(alerts=len(alerts), dead_letters=1, lost=0, repeated=0, duplicates=0, reordered=0, wrong=0)
    assert {name: getattr(found, name) for name in seen} == seen
    assert {name for name in Delivered.__dataclass_fields__ if getattr(found, name) != getattr(sound, name)} == set(
        seen
    )
    assert not all(found.exactly_once.values())


def test_a_row_fails_with_what_was_not_so_with_its_error_and_without_demands() -> None:
    class Scene:
        def cleared(self, name: str) -> Any:
            return Path(name)

    def broken(*_: object) -> Outcome:
        raise OSError("no such broker\nat all")

    def unmet(*_: object) -> Outcome:
        return Outcome({"nothing is lost": False, "no crash": True}, figures={"alo_lost": 2})

    def met(*_: object) -> Outcome:
        return Outcome({"no crash": True}, recover_s=1.25, figures={"alo_lost": 1})

    outcomes: list[Callable[..., Outcome]] = [broken, unmet, met, lambda *_: Outcome({})]
    stage: Any = Scene()
    played = [play(Row(number, "a fault", one), stage, 0) for number, one in enumerate(outcomes, 1)]
    assert [row.passed for row in played] == [False, False, True, False]
    lines = markdown(played).splitlines()[2:]
    assert lines[0] == "| 1 | a fault | – | – | – | – | – | **failed**: OSError: no such broker |"
    assert "not so: nothing is lost." in lines[1]
    assert lines[2] == "| 3 | a fault | – | – | – | – | 1.2 s | passed |"
    assert "nothing was demanded" in lines[3]
    assert figures(played, 5.0) == {"rows_passed": 1, "rows_total": 4, "seeds": 1, "seconds": 5, "alo_lost": 3}


def test_a_row_passes_only_with_every_seed() -> None:
    sound, failed = Outcome({"no crash": True}), Outcome({"no crash": False})
    played = [Played(1, "a", 0, 1.0, sound), Played(1, "a", 1, 1.0, failed), Played(2, "b", 0, 1.0, sound)]
    assert figures(played, 1.0)["rows_passed"] == 1


def test_the_table_has_every_row_once_in_order() -> None:
    assert [row.number for row in ROWS] == list(range(1, 23))
