"""Training rows from files: features, times and labels; what cannot be understood is an error that names row and value."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from monitor.errors import ConfigError
from monitor.model.schema import Schema, Timestamp
from monitor.settings import Settings
from tests.machines import SCHEMA, readings
from training.history import describe_window, parse_times, read_history

SETTINGS = Settings.model_validate({})
NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC).timestamp()


def written(path: Path, **columns: Any) -> Path:
    frame = readings(30, seed=1).with_columns(pl.Series(name, values) for name, values in columns.items())
    frame.write_csv(path)
    return path


def times(values: list[Any], **stamp: Any) -> list[float]:
    seconds: list[float] = parse_times(pl.Series(values), Timestamp(field="at", **stamp), "f.csv").tolist()
    return seconds


def problem_of(values: list[Any], **stamp: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        times(values, **stamp)
    return str(caught.value)


def test_the_features_of_a_file_are_read_in_schema_order(tmp_path: Path) -> None:
    path = written(tmp_path / "f.csv", read_at=["2026-03-01T12:00:00Z"] * 30, machine=["m"] * 30, remark=["x"] * 30)
    history = read_history(str(path), SCHEMA, SETTINGS, max_rows=100)
    assert tuple(history.frame.columns) == SCHEMA.feature_names
    assert history.frame.equals(readings(30, seed=1))
    assert (history.source, history.ignored, history.labels) == (str(path), ("remark",), None)
    assert history.times is not None
    assert history.times.tolist() == [NOON] * 30


def test_without_its_time_column_a_file_has_no_times(tmp_path: Path) -> None:
    assert read_history(str(written(tmp_path / "f.csv")), SCHEMA, SETTINGS, max_rows=100).times is None


def test_the_last_rows_are_taken_with_their_own_times_and_labels(tmp_path: Path) -> None:
    stamps = [f"2026-03-01T12:00:{second:02d}Z" for second in range(30)]
    path = written(tmp_path / "f.csv", read_at=stamps, label=["normal"] * 28 + ["attack"] * 2)
    history = read_history(str(path), SCHEMA, SETTINGS, label="label", max_rows=3)
    assert history.frame.equals(readings(30, seed=1).tail(3))
    assert history.times is not None
    assert history.labels is not None
    assert history.times.tolist() == [NOON + 27, NOON + 28, NOON + 29]
    assert history.labels.tolist() == [False, True, True]


def test_a_label_that_is_no_column_is_refused_with_those_there_are(tmp_path: Path) -> None:
    path = str(written(tmp_path / "f.csv"))
    with pytest.raises(ConfigError, match=r"--label: .*f\.csv has no column 'fraud'; it has load, motor\.current_a"):
        read_history(path, SCHEMA, SETTINGS, label="fraud", max_rows=9)


@pytest.mark.parametrize(
    "data", ["missing.csv", "missing.parquet", "a/b", "no spaces", "topic@2026..", "topic@", "t@x..y"]
)
def test_what_is_neither_file_nor_topic_is_refused_before_any_broker_is_asked(data: str) -> None:
    with pytest.raises(ConfigError, match="--data"):
        read_history(data, SCHEMA, SETTINGS, max_rows=9)


def test_labels_of_a_topic_are_refused() -> None:
    with pytest.raises(ConfigError, match="--label: labels can be given for files only"):
        read_history("payments", SCHEMA, SETTINGS, label="fraud", max_rows=9)


def test_times_of_a_range_need_a_zone() -> None:
    with pytest.raises(ConfigError, match="'2026-01-01T00:00' has no time zone; append Z"):
        read_history("payments@2026-01-01T00:00..", SCHEMA, SETTINGS, max_rows=9)


@pytest.mark.parametrize(
    "value",
    ["2026-03-01T12:00:00Z", "2026-03-01T13:00:00+01:00", "2026-03-01 12:00:00+00:00", "20260301T120000Z",
     dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)],
)  # fmt: skip
def test_iso_times_with_a_zone_are_seconds_since_1970(value: Any) -> None:
    assert times([value]) == [NOON]


@pytest.mark.parametrize("value", ["2026-03-01T13:00:00", "2026-03-01 13:00", dt.datetime(2026, 3, 1, 13)])
def test_times_without_a_zone_get_the_schema_s(value: Any) -> None:
    assert times([value], timezone="Europe/Berlin") == [NOON]
    assert "has no time zone; set timezone in the [timestamp] table" in problem_of([value])


def test_a_zone_of_its_own_comes_before_the_schema_s() -> None:
    assert times(["2026-03-01T12:00:00Z"], timezone="Europe/Berlin") == [NOON]


def test_summer_time_is_known() -> None:
    winter, summer = times(["2026-01-01T12:00:00", "2026-07-01T12:00:00"], timezone="Europe/Berlin")
    assert (summer - winter) / 3600 == 181 * 24 - 1


@pytest.mark.parametrize(
    ("form", "values"), [("epoch_s", [NOON, NOON + 0.5]), ("epoch_ms", [NOON * 1000, NOON * 1000 + 500])]
)
def test_epoch_times_are_seconds_or_milliseconds(form: str, values: list[float]) -> None:
    assert times(values, format=form) == [NOON, NOON + 0.5]
    assert times([str(value) for value in values], format=form) == [NOON, NOON + 0.5]


@pytest.mark.parametrize("value", ["yesterday", "", "2026-13-01T00:00:00Z", "None"])
def test_what_is_no_time_is_named_with_its_row(value: str) -> None:
    assert (
        problem_of(["2026-03-01T12:00:00Z", value]) == f"f.csv: column 'at', row 2: {value!r} is not an ISO 8601 time"
    )


@pytest.mark.parametrize("value", ["soon", None, "inf", "nan"])
def test_what_is_no_finite_number_is_no_epoch_time(value: str | None) -> None:
    problem = problem_of(["1", value], format="epoch_s")
    assert problem == f"f.csv: column 'at', row 2: {value!r} is not a number of epoch_s"


def test_the_window_is_described_in_utc() -> None:
    assert describe_window(np.array([NOON + 60, NOON])) == ("2026-03-01T12:00:00+00:00", "2026-03-01T12:01:00+00:00")
    assert describe_window(np.array([-1e15, 1e15])) == ("0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00")
    assert describe_window(None) == describe_window(np.zeros(0)) == (None, None)


def test_a_schema_s_nested_time_field_is_found_in_json_lines(tmp_path: Path) -> None:
    schema = Schema.from_mapping(
        {
            "name": "s",
            "timestamp": {"field": "meta.at", "format": "epoch_ms"},
            "features": [{"name": "v", "kind": "numeric"}],
        },
        "tests",
    )
    (tmp_path / "f.jsonl").write_text('{"v":1,"meta":{"at":1000}}\n{"v":2,"meta":{"at":2500}}\n')
    history = read_history(str(tmp_path / "f.jsonl"), schema, SETTINGS, max_rows=9)
    assert history.times is not None
    assert history.times.tolist() == [1.0, 2.5]


def test_fields_that_only_late_rows_of_json_lines_have_are_found(tmp_path: Path) -> None:
    schema = Schema.from_mapping(
        {
            "name": "s",
            "id": "n",
            "timestamp": {"field": "at", "format": "epoch_s"},
            "features": [{"name": "v", "kind": "numeric"}],
        },
        "tests",
    )
    early, late = '{"v": 1}\n' * 1500, '{"v": 2, "at": 7, "label": "fraud"}\n' * 30
    (tmp_path / "f.jsonl").write_text(early + late)
    history = read_history(str(tmp_path / "f.jsonl"), schema, SETTINGS, label="label", max_rows=20)
    assert history.times is not None
    assert history.labels is not None
    assert (history.times.tolist(), history.labels.tolist()) == ([7.0] * 20, [True] * 20)
    assert history.absent == ("n",)


def test_anomalous_labels_without_a_label_column_are_refused_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="--anomaly: says which labels mean anomaly; --label names the column"):
        read_history("absent.csv", SCHEMA, SETTINGS, anomaly=["yes"], max_rows=9)
