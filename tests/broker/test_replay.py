"""`ganwatch replay` on a real Kafka: history scored once more beside the live group, which must not notice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monitor.model.bundle import Bundle
from monitor.model.registry import Registry
from tests.broker.conftest import Stream
from tests.bundles import bundle_created
from tests.faults.history import SAID
from tests.machines import as_json, readings
from tests.terminal import Terminal, flags_of, terminal_in
from tests.topics import committed, publish, read_alerts, read_all

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
LONG_AGO = "2020-01-01"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def in_terminal(
    stream: Stream, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    with terminal_in(stream.folder, capsys, monkeypatch) as terminal:
        terminal.flags = flags_of(stream.settings())
        yield terminal


@pytest.fixture
def terminal(stream: Stream, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    yield from in_terminal(stream, capsys, monkeypatch)


def alerts_of(stream: Stream, *, marked: bool) -> dict[str, dict[str, Any]]:
    """Alerts by id; those of replays, or the live ones."""
    alerts = [alert for alert in read_alerts(stream.kafka.bootstrap, stream.alerts) if alert["replay"] == marked]
    return {alert["id"]: alert for alert in alerts}


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in file.read_bytes().splitlines()]


def test_history_is_scored_as_it_was_live_and_the_live_group_does_not_notice(
    terminal: Terminal, stream: Stream
) -> None:
    good = as_json(readings(3000, seed=3, anomalies=60))
    publish(stream.kafka.bootstrap, stream.features, [*good[:1500], b"{", None, *good[1500:]])
    with stream.daemon() as daemon:
        daemon.wait_until_done(3002)
        daemon.wait_until(
            lambda: committed(stream.kafka.bootstrap, stream.group, stream.features) == {0: 3002}, "committed"
        )
        rebalances = daemon.metrics()["ganwatch_rebalances_total"]
        outcome = terminal.run("replay", "--from", LONG_AGO, "--json")
        publish(stream.kafka.bootstrap, stream.features, good[:100])
        daemon.wait_until_done(3102)
        assert daemon.metrics()["ganwatch_rebalances_total"] == rebalances
    content = outcome.json
    live, again = alerts_of(stream, marked=False), alerts_of(stream, marked=True)
    assert (outcome.code, content["records"], content["scored"], content["flagged"]) == (0, 3002, 3000, len(again))
    assert content["invalid"] == {"empty": 1, "not_json": 1}
    assert len(again) >= 60
    live = {key: alert for key, alert in live.items() if alert["record"]["offset"] < 3002}
    assert {key: [alert[part] for part in SAID] for key, alert in again.items()} == {
        key: [alert[part] for part in SAID] for key, alert in live.items()
    }
    assert committed(stream.kafka.bootstrap, stream.group, stream.features) == {0: 3102}
    assert committed(stream.kafka.bootstrap, content["group_id"], stream.features) == {0: 3002}
    assert len(read_all(stream.kafka.bootstrap, stream.dead_letters)) == 2


def fill(stream: Stream, partitions: int) -> None:
    """One anomalous record a minute for an hour, dealt out over the partitions."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=stream.kafka.bootstrap)
    for number, value in enumerate(as_json(readings(60, seed=4, anomalies=60))):
        moment_ms = int((NOON + timedelta(minutes=number)).timestamp() * 1000)
        producer.send(stream.features, value, timestamp_ms=moment_ms, partition=number % partitions)
    producer.flush(timeout=30)
    producer.close()


def test_a_range_of_time_is_replayed_into_a_file(
    new_stream: Callable[[int], Stream], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = new_stream(3)
    fill(stream, 3)
    for terminal in in_terminal(stream, capsys, monkeypatch):
        terminal.flags = flags_of(stream.settings(threshold=0))
        arguments = ("replay", "--from", "2026-03-01T12:10:00Z", "--to", "2026-03-01T12:20:00Z")
        content = terminal.run(*arguments, "--out", "alerts.jsonl", "--json").json
        stamps = sorted(alert["record"]["timestamp"] for alert in lines_of(stream.folder / "alerts.jsonl"))
        assert stamps == [f"2026-03-01T12:{minute}:00.000Z" for minute in range(10, 20)]
        assert (content["flagged"], content["alerts_to"], content["resumed"]) == (10, "alerts.jsonl", False)
        assert all(alert["replay"] for alert in lines_of(stream.folder / "alerts.jsonl"))
        assert read_alerts(stream.kafka.bootstrap, stream.alerts) == []
        again = terminal.run(*arguments, "--out", "alerts.jsonl")
        assert "an earlier run had done all of it; --restart scores it again" in again.out
        assert len(lines_of(stream.folder / "alerts.jsonl")) == 10
        assert (
            terminal.run(*arguments, "--out", "alerts.jsonl", "--restart", "--json").json["this_run"]["records"] == 10
        )
        assert len(lines_of(stream.folder / "alerts.jsonl")) == 10
        (stream.folder / "other.jsonl").write_text("something\n")
        refused = terminal.run(*arguments, "--out", "other.jsonl")
        assert (refused.code, refused.err) == (
            2,
            "ganwatch: --out other.jsonl: holds something already; give another name, or --restart to overwrite it\n",
        )


def end_half_way(stream: Stream, how: signal.Signals, *arguments: str) -> int:
    """Starts a slow replay and ends it once it has committed something; returns what it had done by then."""
    flags = flags_of(stream.settings(max_rows=40, judge_threads=1))
    process = subprocess.Popen(
        [sys.executable, "-m", "monitor.cli", "replay", "--name", "r", *arguments, *flags],
        cwd=stream.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    partitions, done = (0, 1), 0
    deadline = time.monotonic() + 60
    while done < 2000:
        assert process.poll() is None, "the replay ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
        offsets = committed(stream.kafka.bootstrap, f"{stream.group}-replay-r", stream.features, partitions)
        done = sum(offset or 0 for offset in offsets.values())
    process.send_signal(how)
    assert process.wait(timeout=30) == (130 if how == signal.SIGTERM else -how)
    return done


@pytest.mark.parametrize(
    ("destination", "how"), [("topic", signal.SIGKILL), ("file", signal.SIGKILL), ("topic", signal.SIGTERM)]
)
def test_a_replay_that_is_ended_goes_on_without_loss(
    new_stream: Callable[[int], Stream],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    destination: str,
    how: signal.Signals,
) -> None:
    stream = new_stream(2)
    records = as_json(readings(20_000, seed=6, anomalies=400))
    records[::2], records[1::2] = records[:10_000], records[10_000:]  # anomalies all over the second partition's tail
    publish(stream.kafka.bootstrap, stream.features, records, partition=None)
    for terminal in in_terminal(stream, capsys, monkeypatch):
        whole = terminal.run("replay", "--from", LONG_AGO, "--out", "whole.jsonl", "--json").json
        target = ("--out", "part.jsonl") if destination == "file" else ()
        done = end_half_way(stream, how, "--from", LONG_AGO, *target)
        content = terminal.run("replay", "--name", "r", "--from", LONG_AGO, *target, "--json").json
    expected = {alert["id"]: alert["raw_score"] for alert in lines_of(stream.folder / "whole.jsonl")}
    assert len(expected) == whole["flagged"] >= 400
    assert content["resumed"]
    assert (content["records"], content["flagged"]) == (20_000, whole["flagged"])
    assert content["this_run"]["records"] <= 20_000 - done
    if destination == "file":
        alerts = lines_of(stream.folder / "part.jsonl")
        assert len(alerts) == len(expected)
    else:
        alerts = read_alerts(stream.kafka.bootstrap, stream.alerts)
    assert {alert["id"]: alert["raw_score"] for alert in alerts} == expected
    assert committed(stream.kafka.bootstrap, stream.group, stream.features, (0, 1)) == {0: None, 1: None}


def test_another_model_does_not_go_on_with_a_replay(
    terminal: Terminal, stream: Stream, machines_bundle: Bundle
) -> None:
    publish(stream.kafka.bootstrap, stream.features, as_json(readings(50, seed=1)))
    arguments = ("replay", "--from", LONG_AGO, "--name", "r", "--out", "a.jsonl")
    assert terminal.run(*arguments).code == 0
    newer = Registry(str(stream.folder / "newer"))
    folder = bundle_created("2026-12-01T00:00:00.000000+00:00", stream.folder / "b", machines_bundle)
    newer.promote("machines", newer.publish(folder), author="human", reason="newer")
    outcome = terminal.run(*arguments, "--registry", "newer")
    assert outcome.code == 2
    assert outcome.err.startswith(f"ganwatch: replay {stream.group}-replay-r: was begun with a model of SHA-256 ")
    assert terminal.run(*arguments, "--registry", "newer", "--restart").code == 0


def test_records_deleted_before_they_could_be_read_are_counted(terminal: Terminal, stream: Stream) -> None:
    from kafka import KafkaAdminClient, KafkaConsumer, OffsetAndMetadata, TopicPartition

    from monitor.replay.progress import PartitionProgress

    publish(stream.kafka.bootstrap, stream.features, as_json(readings(100, seed=1)))
    partition = TopicPartition(stream.features, 0)
    consumer = KafkaConsumer(bootstrap_servers=stream.kafka.bootstrap, group_id=f"{stream.group}-replay-r")
    begun = PartitionProgress(start=0, end=90, scored=10)
    consumer.commit({partition: OffsetAndMetadata(10, begun.to_metadata(), -1)})  # as a run that was killed leaves it
    consumer.close(autocommit=False)
    admin = KafkaAdminClient(bootstrap_servers=stream.kafka.bootstrap)
    admin.delete_records({partition: 40})
    admin.close()
    content = terminal.run("replay", "--from", LONG_AGO, "--name", "r", "--json").json
    assert (content["resumed"], content["scored"], content["skipped"]) == (True, 60, 30)


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("--from", "yesterday"), 2, "--from: 'yesterday' is not an ISO 8601 time"),
        (("--from", "2026-03-02", "--to", "2026-03-01"), 2, "--to: 2026-03-01 is not after --from 2026-03-02"),
        (("--from", LONG_AGO, "--features-topic", "absent"), 5, "no topic 'absent'"),
        (("--from", LONG_AGO, "--alerts-topic", "absent"), 5, "no topic 'absent'"),
        (("--from", LONG_AGO, "--out", "no/such/folder.jsonl"), 2, "--out no/such/folder.jsonl: cannot be written"),
        (("--from", LONG_AGO, "--registry", "elsewhere"), 4, "model 'machines' has no champion"),
    ],
)
def test_what_keeps_a_replay_from_starting_is_one_line(
    terminal: Terminal, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    outcome = terminal.run("replay", *arguments)
    assert (outcome.code, outcome.err.count("\n")) == (code, 1)
    assert complaint in outcome.err


def test_an_empty_range_ends_at_once(terminal: Terminal, stream: Stream) -> None:
    publish(stream.kafka.bootstrap, stream.features, as_json(readings(10, seed=1)))
    content = terminal.run("replay", "--from", "2020-01-01", "--to", "2020-01-02", "--json").json
    assert (content["records"], content["flagged"]) == (0, 0)


def test_a_terminal_shows_progress_while_it_runs_and_a_table_at_the_end(terminal: Terminal, stream: Stream) -> None:
    publish(stream.kafka.bootstrap, stream.features, as_json(readings(3000, seed=1)))
    terminal.monkeypatch.setenv("FORCE_COLOR", "1")  # which rich takes for a terminal
    outcome = terminal.run("replay", "--from", LONG_AGO, "--set", "max_rows=100")
    assert "/3000" in outcome.err
    assert "alerts" in outcome.err
    assert f"replay of {stream.features}" in outcome.out
