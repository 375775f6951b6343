"""What a replay counts and keeps, and where it writes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import msgspec
import pytest

from monitor.alerting.alert import alert_schema, marked_as_replay
from monitor.errors import ConfigError
from monitor.model.bundle import Bundle
from monitor.replay.destination import AlertFile
from monitor.replay.progress import PartitionProgress, counted, next_offsets, outcome_by_partition, until
from monitor.replay.replay import Request, group_of
from monitor.settings import Settings
from monitor.stream.broker import Cluster
from monitor.stream.judged import Judged
from monitor.stream.pipeline import Pipeline
from monitor.stream.topic_reader import TimeRange
from tests.machines import as_json, readings
from tests.monitor.records import batch_of, segment

WINDOW = TimeRange(datetime(2026, 3, 1, tzinfo=UTC))


def judge(bundle: Bundle, values: dict[int, list[bytes | None]]) -> Judged:
    """What the pipeline says to records by partition."""
    pipeline = Pipeline(bundle, Settings(target_alert_rate=0.01), Cluster("c", "t"))  # type: ignore[call-arg]
    segments = [segment(own, partition=partition) for partition, own in values.items()]
    judged = pipeline.judge(batch_of(*segments))
    return replace(judged, messages=[message for message in judged.messages if message.topic == "alerts"])


def test_outcomes_are_counted_by_partition(machines_bundle: Bundle) -> None:
    broken = as_json(readings(20, seed=1, anomalies=20))
    good = as_json(readings(30, seed=2))
    found = outcome_by_partition(judge(machines_bundle, {3: [*good, b"{", None], 1: [b"{", *broken, b"["]}))
    assert {number: (own.n_records, own.scored, own.invalid) for number, own in found.items()} == {
        3: (32, 30, {"not_json": 1, "empty": 1}),
        1: (22, 20, {"not_json": 1, "not_one_object": 1}),
    }
    assert found[1].flagged >= 18
    assert found[3].flagged <= 3


def test_counts_add_up_and_survive_being_committed() -> None:
    first = PartitionProgress(start=5, end=90, scored=10, flagged=1, invalid={"empty": 1}, sha256="ab", written=7)
    both = counted(first, PartitionProgress(start=0, end=0, scored=5, flagged=2, invalid={"empty": 1, "not_json": 3}))
    assert both == PartitionProgress(
        start=5, end=90, scored=15, flagged=3, invalid={"empty": 2, "not_json": 3}, sha256="ab", written=7
    )
    assert PartitionProgress.from_metadata(both.to_metadata()) == both


@pytest.mark.parametrize("metadata", ["", "{}", "null", "of somebody else", '{"start": "a", "end": 1}'])
def test_metadata_of_somebody_else_is_no_progress(metadata: str) -> None:
    assert PartitionProgress.from_metadata(metadata) is None


@pytest.mark.parametrize(("end", "kept"), [(7, 0), (8, 1), (10, 3), (12, 5), (99, 5)])
def test_a_segment_is_cut_at_the_end_of_the_range(end: int, kept: int) -> None:
    whole = segment([b"{}"] * 5, first=7)
    part = until(whole, end)
    assert (0 if part is None else len(part)) == kept
    if part is not None:
        assert next_offsets([part]) == {whole.partition: 7 + kept}


def test_each_replay_has_a_group_of_its_own_that_is_never_the_live_one() -> None:
    settings = Settings()  # type: ignore[call-arg]
    requests = [
        (settings, Request(WINDOW)),
        (settings, Request(TimeRange(WINDOW.start, datetime(2026, 3, 2, tzinfo=UTC)))),
        (settings, Request(WINDOW, out=Path("alerts.jsonl"))),
        (settings, Request(WINDOW, name="mine")),
        (settings.model_copy(update={"alerts_topic": "trial"}), Request(WINDOW)),
        (settings.model_copy(update={"model_version": "v1"}), Request(WINDOW)),
        (settings.model_copy(update={"threshold": 60.0}), Request(WINDOW)),
    ]
    groups = [group_of(own, request) for own, request in requests]
    assert len(set(groups)) == len(groups)
    assert all(group.startswith("ganwatch-replay-") for group in groups)
    assert group_of(settings, Request(WINDOW, restart=True)) == groups[0]


def test_an_alert_marked_as_replay_differs_in_that_alone(machines_bundle: Bundle) -> None:
    judged = judge(machines_bundle, {0: [*as_json(readings(20, seed=1, anomalies=20))]})
    live = judged.messages[0].value
    marked = marked_as_replay(live)
    jsonschema.validate(msgspec.json.decode(marked), alert_schema())
    assert marked == live.replace(b'"replay":false', b'"replay":true')


def test_a_file_is_cut_back_to_what_was_committed(tmp_path: Path, machines_bundle: Bundle) -> None:
    judged = judge(machines_bundle, {0: [*as_json(readings(20, seed=1, anomalies=20))]})
    path = tmp_path / "alerts.jsonl"
    killed = AlertFile(path)
    killed.begin()
    killed.deliver(judged)
    written = killed.settle()
    killed.deliver(judged)
    killed.close()
    again = AlertFile(path)
    again.go_on(written)
    again.deliver(judged)
    assert again.settle() == 2 * written
    again.close()
    assert path.read_bytes().splitlines() == [message.value for message in judged.messages] * 2


def test_a_file_that_holds_something_else_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    path.write_text("mine\n")
    with pytest.raises(ConfigError, match="holds something already"):
        AlertFile(path).begin()
    with pytest.raises(ConfigError, match="holds 5 bytes of the 80"):
        AlertFile(path).go_on(80)
    assert path.read_text() == "mine\n"
