"""Retraining from the archive: what people said counts, outliers stay out, and a changed world is learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monitor.archive.sample import ScoredRows
from monitor.archive.writer import ArchiveOptions, ArchiveWriter, store_stratum
from monitor.errors import ConfigError
from monitor.model.schema import Schema
from monitor.model.store import Store, open_store
from monitor.settings import Settings
from tests import machines
from training.archive_history import read_archive
from training.feedback import Feedback, parse_feedback, read_feedback
from training.material import RetrainingData

SCHEMA = machines.SCHEMA
START = 1_700_000_000.0
OPTIONS = ArchiveOptions(stratum_rows=400, stratum_flagged=50)


def archive(store: Store, flagged: dict[int, dict[int, float]], n: int = 400, strata: int = 3) -> None:
    """Strata of n records, one a second; `flagged` gives p-values of flagged records by stratum and place in it."""
    for number in range(strata):
        writer = ArchiveWriter(OPTIONS)
        offsets = np.arange(number * n, (number + 1) * n)
        p_value = np.full(n, 0.5)
        for place, p in flagged.get(number, {}).items():
            p_value[place] = p
        rows = ScoredRows(
            frame=machines.readings(n, seed=number),
            topic="features",
            partitions=np.zeros(n, dtype=np.int32),
            offsets=offsets,
            times=START + offsets.astype(np.float64),
            raw_score=np.ones(n, dtype=np.float32),
            p_value=p_value,
            score=np.zeros(n),
            model="v1",
            alert_ids={place: f"alert-{offsets[place]}" for place in flagged.get(number, {})},
        )
        writer.add(rows.sample(writer.limit))
        closed = writer.close()
        assert closed is not None
        store_stratum(store, "machines", SCHEMA, closed, OPTIONS, now=START + 10_000)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "archive"), "archive")


def read(store: Store, feedback: Feedback | None = None, max_rows: int = 100_000) -> RetrainingData:
    return read_archive(store, "machines", SCHEMA, feedback or Feedback({}), max_rows=max_rows)


def seconds(data: RetrainingData) -> list[int]:
    assert data.history.times is not None
    return [int(time - START) for time in data.history.times]


def test_all_rows_come_in_the_order_of_time_with_their_values(store: Store) -> None:
    archive(store, {})
    data = read(store)
    assert seconds(data) == list(range(1200))
    assert data.history.frame.head(400).equals(machines.readings(400, seed=0))
    assert data.history.frame.tail(400).equals(machines.readings(400, seed=2))
    assert (data.labelled, data.labels) == (None, None)
    assert set(data.left_out.values()) == {0}


def test_a_record_that_was_delivered_twice_counts_once(store: Store) -> None:
    archive(store, {})
    archive(store, {})
    assert seconds(read(store)) == list(range(1200))


def test_of_too_many_rows_a_uniform_part_is_taken(store: Store) -> None:
    archive(store, {})
    taken = seconds(read(store, max_rows=300))
    assert len(taken) == 300
    assert [sum(1 for second in taken if second // 400 == number) for number in range(3)] == [100, 100, 100]
    assert taken == seconds(read(store, max_rows=300))


def test_confirmed_anomalies_are_never_learned_and_a_false_alarm_either_is_or_judges(store: Store) -> None:
    archive(store, {1: dict.fromkeys((10, 20, 30, 40), 0.0005)})
    said = {"alert-410": True, "alert-420": False, "alert-440": False, "alert-9999": True}
    data = read(store, Feedback(said))
    assert {410, 420, 430, 440} & set(seconds(data)) == {420, 430}
    assert data.left_out == {"confirmed anomalies": 1, "outliers": 0, "false alarms to judge by": 1}
    assert data.labelled is not None
    assert data.labels is not None
    readings = machines.readings(400, seed=1)
    assert data.labelled.filter(data.labels).equals(readings[[10]])
    assert data.labelled.filter(~data.labels).equals(readings[[40]])


def test_unlikely_flagged_records_stay_out_unless_people_call_them_normal(store: Store) -> None:
    archive(store, {0: {5: 1e-6, 6: 1e-6, 7: 5e-4}})
    assert {5, 6, 7} - set(seconds(read(store))) == {5, 6}
    assert {5, 6, 7} - set(seconds(read(store, Feedback({"alert-5": False})))) == {6}


def test_where_many_are_unlikely_the_world_has_changed_and_they_are_learned(store: Store) -> None:
    archive(store, {2: dict.fromkeys(range(100, 400), 1e-9), 1: {3: 1e-9}})
    data = read(store)
    assert set(range(900, 1200)) <= set(seconds(data))
    assert 403 not in seconds(data)


def test_a_judged_record_is_found_though_the_sample_lost_it(store: Store) -> None:
    archive(store, {0: {5: 1e-6}})
    for path in store.files("machines"):
        if "/sample/" in path and path.rpartition("/")[2].startswith("1700000000000"):
            store.remove(path)
    data = read(store, Feedback({"alert-5": True}))
    assert data.labelled is not None
    assert data.labelled.equals(machines.readings(400, seed=0)[[5]])


def test_an_empty_archive_is_answered_with_the_remedy(store: Store) -> None:
    with pytest.raises(ConfigError, match=r"holds no records of model 'machines' with this schema; set `archive`"):
        read(store)
    archive(store, {})
    other = Schema(name="machines", features=SCHEMA.features[1:])
    with pytest.raises(ConfigError, match="with this schema"):
        read_archive(store, "machines", other, Feedback({}), max_rows=10)


def test_feedback_is_read_in_all_its_spellings_and_the_last_word_counts() -> None:
    entries = [
        b'{"alert_id": "a", "label": "anomaly"}',
        b'{"alert_id": "b", "label": "false_alarm", "by": "anna"}',
        b'{"alert_id": "c", "label": true}',
        b'{"alert_id": "d", "label": 0}',
        b'{"alert_id": "a", "label": "Normal"}',
        b"",
        None,
        b'{"alert_id": "e", "label": "perhaps"}',
        b'{"label": "anomaly"}',
        b"\xff",
    ]
    assert parse_feedback(entries) == Feedback({"a": False, "b": False, "c": True, "d": False}, invalid=3)


def test_feedback_that_cannot_be_understood_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "feedback.jsonl").write_text('{"alert_id": "a", "label": "anomaly"}\n{"alert_id": "b"}\nwhat?\n')
    assert read_feedback(str(tmp_path / "feedback.jsonl"), Settings()).anomalies == {"a": True}
    (warning,) = caplog.records
    assert (warning.getMessage(), vars(warning)["entries"]) == ("feedback_not_understood", 2)


def test_feedback_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "feedback.jsonl").write_text('{"alert_id": "a", "label": "anomaly"}\n')
    assert read_feedback(str(tmp_path / "feedback.jsonl"), Settings()) == Feedback({"a": True})
    with pytest.raises(ConfigError, match=r"--feedback .*none\.jsonl: cannot be read: No such file"):
        read_feedback(str(tmp_path / "none.jsonl"), Settings())
