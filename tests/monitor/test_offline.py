"""`ganwatch score`: the daemon's path over a file, the same bits, ties broken as Kafka's would be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from monitor.errors import BundleError, ConfigError
from monitor.model.attribution import Attribution
from monitor.model.bundle import Bundle
from monitor.model.calibration import tie_breakers
from monitor.model.detection import detect
from monitor.offline import FileScores, print_scores, row_tie_breakers, score_file
from monitor.settings import Settings
from monitor.stream.broker import Cluster
from monitor.stream.pipeline import Pipeline
from tests.machines import as_json, readings
from tests.monitor.records import batch_of, segment

FRAME = readings(500, seed=21, anomalies=50)


@pytest.fixture
def settings(machines_folder: Path) -> Settings:
    return Settings.model_validate(
        {
            "schema_path": str(machines_folder / "features.toml"),
            "registry": str(machines_folder / "registry"),
            "target_alert_rate": 0.02,
        }
    )


def written(path: Path, frame: pl.DataFrame = FRAME) -> Path:
    if path.suffix == ".csv":
        frame.write_csv(path)
    elif path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        path.write_bytes(b"\n".join(as_json(frame)))
    return path


def placed(frame: pl.DataFrame, **columns: Any) -> pl.DataFrame:
    """The readings with their places in Kafka, three partitions in turn."""
    rows = np.arange(frame.height)
    places = {"topic": "payments", "partition": rows % 3, "offset": rows // 3 + 1000} | columns
    return frame.with_columns(
        pl.Series(name, [value] * frame.height if isinstance(value, str) else value) for name, value in places.items()
    )


@pytest.mark.parametrize("name", ["f.csv", "f.parquet", "f.jsonl"])
def test_a_file_of_any_format_scores_the_bits_that_detect_gives(
    settings: Settings, machines_bundle: Bundle, tmp_path: Path, name: str
) -> None:
    expected = detect(machines_bundle, FRAME, tie_breakers(machines_bundle.sha256, "", 0, np.arange(500)))
    found = score_file(written(tmp_path / name), settings)
    assert found.frame["raw_score"].to_numpy().tobytes() == expected.raw_score.tobytes()
    assert found.frame["p_value"].to_numpy().tobytes() == expected.p_value.tobytes()
    assert found.frame["score"].to_numpy().tobytes() == expected.score.tobytes()
    assert found.frame["row"].to_list() == list(range(500))
    assert found.frame["flagged"].to_list() == (expected.score >= found.threshold).tolist()


@pytest.mark.parametrize("method", ["quantile", "pot"])
def test_a_file_is_judged_by_the_method_that_the_daemon_uses(
    settings: Settings, machines_bundle: Bundle, tmp_path: Path, method: str
) -> None:
    settings = settings.model_copy(update={"threshold_method": method, "target_alert_rate": 0.1})
    found = score_file(written(tmp_path / "f.parquet"), settings)
    judged = Pipeline(machines_bundle, settings, Cluster("c", "t")).judge(batch_of(segment(as_json(FRAME))))
    alerts = [json.loads(message.value) for message in judged.messages]
    assert [alert["record"]["offset"] for alert in alerts] == found.frame.filter("flagged")["row"].to_list()
    assert {alert["threshold"] for alert in alerts} == {round(found.threshold, 2)}


def test_the_rows_of_a_file_are_one_micro_batch_to_the_false_discovery_rate(settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"false_discovery_rate": 0.2})
    all_rows = score_file(written(tmp_path / "all.parquet"), settings)
    normal = score_file(written(tmp_path / "normal.parquet", FRAME.head(450)), settings)
    assert all_rows.frame["flagged"][450:].sum() > 30
    assert normal.frame["flagged"].sum() < all_rows.frame["flagged"][:450].sum() + 5
    assert normal.threshold > all_rows.threshold


def test_more_rows_than_are_scored_at_once_give_the_same_bits(
    settings: Settings, machines_bundle: Bundle, tmp_path: Path
) -> None:
    frame = readings(4500, seed=2)
    found = score_file(written(tmp_path / "f.parquet", frame), settings, top=0)
    expected = detect(machines_bundle, frame, tie_breakers(machines_bundle.sha256, "", 0, np.arange(4500)))
    assert found.frame["score"].to_numpy().tobytes() == expected.score.tobytes()
    assert found.top == {}


@pytest.mark.parametrize("name", ["f.csv", "f.parquet"])
def test_rows_with_their_place_in_kafka_score_as_the_daemon_scored_them(
    settings: Settings, machines_bundle: Bundle, tmp_path: Path, name: str
) -> None:
    records = as_json(FRAME)
    parts = [segment(records[partition::3], partition=partition, first=1000) for partition in range(3)]
    pipeline = Pipeline(machines_bundle, settings.model_copy(update={"threshold": 0.0}), Cluster("c", "t"))
    alerts = [json.loads(message.value) for message in pipeline.judge(batch_of(*parts)).messages]
    by_place = {(alert["record"]["partition"], alert["record"]["offset"]): alert["p_value"] for alert in alerts}
    found = score_file(written(tmp_path / name, placed(FRAME, topic="features")), settings).frame
    places = zip(found["partition"].to_list(), found["offset"].to_list(), strict=True)
    assert [by_place[place] for place in places] == found["p_value"].to_list()


def test_tie_breakers_follow_topic_partition_and_offset(machines_bundle: Bundle) -> None:
    found = row_tie_breakers(machines_bundle, placed(FRAME))
    for partition in range(3):
        expected = tie_breakers(
            machines_bundle.sha256, "payments", partition, np.arange(1000, 1000 + len(found[partition::3]))
        )
        assert found[partition::3].tobytes() == expected.tobytes()


def test_without_all_three_columns_the_row_number_breaks_ties(machines_bundle: Bundle) -> None:
    by_row = tie_breakers(machines_bundle.sha256, "", 0, np.arange(500))
    for left_out in ("topic", "partition", "offset"):
        assert row_tie_breakers(machines_bundle, placed(FRAME).drop(left_out)).tobytes() == by_row.tobytes()


@pytest.mark.parametrize(
    ("column", "value"), [("offset", "first"), ("partition", "p0"), ("offset", [None] * 500), ("topic", [None] * 500)]
)
def test_a_place_that_is_none_is_refused_with_its_row(
    settings: Settings, tmp_path: Path, column: str, value: Any
) -> None:
    with pytest.raises(
        ConfigError, match=r"columns topic, partition, offset: row 1 holds .*which is no place in Kafka"
    ):
        score_file(written(tmp_path / "f.parquet", placed(FRAME, **{column: value})), settings)


def test_the_highest_scores_are_explained_highest_first(settings: Settings, tmp_path: Path) -> None:
    found = score_file(written(tmp_path / "f.parquet"), settings, top=7)
    scores = found.frame["score"].to_numpy()
    assert [scores[row] for row in found.top] == sorted(scores, reverse=True)[:7]
    for attributions in found.top.values():
        shares = [part.share for part in attributions]
        assert len(shares) == settings.attribution_top_k
        assert shares == sorted(shares, reverse=True)


def test_more_top_rows_than_there_are_rows_are_all_of_them(settings: Settings, tmp_path: Path) -> None:
    assert len(score_file(written(tmp_path / "f.csv", FRAME.head(3)), settings, top=10).top) == 3


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl", ".ndjson"])
def test_all_scores_can_be_written_and_read_back(settings: Settings, tmp_path: Path, suffix: str) -> None:
    found = score_file(written(tmp_path / "f.parquet"), settings)
    out = tmp_path / f"scores{suffix}"
    print_scores(found, out=out, as_json=True)
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {".csv": pl.read_csv, ".parquet": pl.read_parquet}
    read = readers.get(suffix, pl.read_ndjson)(out)
    assert read.columns == ["row", "raw_score", "p_value", "score", "flagged"]
    assert read["score"].to_list() == found.frame["score"].to_list()
    assert read["p_value"].to_list() == found.frame["p_value"].to_list()


def test_scores_cannot_be_written_to_another_format_or_a_missing_folder(settings: Settings, tmp_path: Path) -> None:
    found = score_file(written(tmp_path / "f.csv", FRAME.head(3)), settings)
    with pytest.raises(
        ConfigError, match=r"--out .*scores\.xlsx: unknown suffix; use one of \.csv, \.parquet, \.jsonl, \.ndjson"
    ):
        print_scores(found, out=tmp_path / "scores.xlsx", as_json=True)
    for suffix in (".csv", ".parquet", ".jsonl"):
        with pytest.raises(ConfigError, match=r"cannot be written: No such file or directory"):
            print_scores(found, out=tmp_path / "missing" / f"s{suffix}", as_json=True)


def summary_of(scores: FileScores, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    print_scores(scores, out=None, as_json=True)
    summary: dict[str, Any] = json.loads(capsys.readouterr().out)
    return summary


def test_the_json_summary_counts_names_and_explains(
    settings: Settings, machines_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "f.parquet", placed(FRAME))
    found = score_file(path, settings, top=2)
    summary = summary_of(found, capsys)
    assert (summary["file"], summary["rows"], summary["flagged"]) == (str(path), 500, found.frame["flagged"].sum())
    assert summary["model"] == {
        "name": "machines",
        "version": machines_bundle.path.name,
        "sha256": machines_bundle.sha256,
    }
    (row, attributions), *_ = found.top.items()
    first = summary["top"][0]
    assert (first["row"], first["topic"], first["offset"]) == (row, "payments", row // 3 + 1000)
    assert first["score"] == found.frame["score"][row]
    assert [part["feature"] for part in first["attribution"]] == [part.feature for part in attributions]
    assert set(first["attribution"][0]) == {"feature", "value", "expected", "share"}


def test_the_table_shows_values_as_they_are_even_if_they_look_like_markup(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    frame = FRAME.head(5).with_columns(mode=pl.lit("[/red] :smile: [bold]x"), pieces=pl.lit(3.0))
    path = written(tmp_path / "[b]f.parquet", frame)
    print_scores(score_file(path, settings.model_copy(update={"threshold": 0.0})), out=None, as_json=False)
    shown = capsys.readouterr().out
    assert f"{path}: 5 rows, 5 flagged (100.000%) at score >= 0.0, model machines" in shown
    assert "mode [/red] :smile: [bold]x (" in shown


def test_a_file_is_told_when_nothing_in_it_can_be_flagged(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = score_file(written(tmp_path / "readings.csv"), settings)
    assert found.nothing_flagged_because is None
    silent = replace(found, nothing_flagged_because="no record can be flagged")
    print_scores(silent, out=None, as_json=False)
    assert "no record can be flagged" in capsys.readouterr().out
    print_scores(silent, out=None, as_json=True)
    assert json.loads(capsys.readouterr().out)["nothing_flagged_because"] == "no record can be flagged"


def test_rows_of_the_same_score_are_told_apart_by_their_raw_score(settings: Settings, tmp_path: Path) -> None:
    loads = [50.0, 1e4, 1e8, 1e6]
    frame = FRAME.head(4).with_columns(load=pl.Series(loads))
    found = score_file(written(tmp_path / "readings.csv", frame), settings)
    score, raw_score = (found.frame.get_column(name).to_numpy() for name in ("score", "raw_score"))
    assert len(set(score.tolist())) < len(set(raw_score.tolist())) == 4
    assert list(found.top) == sorted(range(4), key=lambda row: (-score[row], -raw_score[row]))


def test_the_table_shows_short_numbers_and_sets_no_value_against_itself(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    found = score_file(written(tmp_path / "readings.csv"), settings)
    reasons = [Attribution("mode", "idle", "idle", 0.6), Attribution("load", 2.0 / 3, 1e9, 0.4)]
    print_scores(replace(found, top={0: reasons}), out=None, as_json=False)
    assert "mode idle 60%; load 0.666667 (1e+09) 40%" in capsys.readouterr().out


def test_a_file_that_does_not_fit_is_a_configuration_error(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no column 'load'"):
        score_file(written(tmp_path / "f.csv", FRAME.drop("load")), settings)
    with pytest.raises(ConfigError, match="no such file"):
        score_file(tmp_path / "nothing.csv", settings)


def test_a_pinned_version_that_does_not_exist_is_a_bundle_error(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="models/machines/v1: no such version"):
        score_file(written(tmp_path / "f.csv"), settings.model_copy(update={"model_version": "v1"}))
