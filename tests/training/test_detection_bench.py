"""What the detection benchmark computes around the trainings: cache, tables, baselines, splits, planted anomalies."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from monitor.model.schema import Feature, Schema
from monitor.model.scorer import Explanation
from tests.benchmarks.detection import bench
from tests.benchmarks.detection.__main__ import PARTS, read_arguments
from tests.benchmarks.detection.attribution import plant, rank_planted
from tests.benchmarks.detection.baselines import BEST_FEATURE, PCA_RESIDUAL, neighbour_distance, score_baselines
from tests.benchmarks.detection.bench import Bench, cached, digest_files
from tests.benchmarks.detection.goad import top_f1
from tests.benchmarks.detection.mnist import Images, draw_test_images, probability_gap
from tests.benchmarks.detection.rows import Table, measure_auroc, split_normals
from tests.benchmarks.detection.smd import best_f1
from tests.benchmarks.detection.table import print_table
from tests.benchmarks.goals import describe_commit, report
from training.preprocessing import fit_preprocessor


@pytest.fixture
def line() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows on the line y = x; half of the test rows lie off it, with values that are usual by themselves."""
    rng = np.random.default_rng(0)
    train, test = (np.repeat(rng.standard_normal((n, 1)), 2, axis=1) for n in (400, 100))
    test[50:, 1] = -test[50:, 1] + np.sign(test[50:, 0])
    return train.astype(np.float32), test.astype(np.float32), np.repeat([0, 1], 50)


def test_a_figure_is_computed_once_for_each_key(tmp_path: Path) -> None:
    computed = []

    def compute() -> dict[str, dict[str, float]]:
        computed.append(len(computed))
        return {"detector": {"f1": 0.5 + len(computed)}}

    first = cached(tmp_path, {"seed": 1}, compute)
    assert cached(tmp_path, {"seed": 1}, compute) == first
    assert cached(tmp_path, {"seed": 2}, compute) != first
    assert computed == [0, 1]


def test_without_a_folder_everything_is_computed_anew() -> None:
    computed = []
    for _ in range(2):
        cached(None, {}, lambda: computed.append(1) or {})
    assert len(computed) == 2


@pytest.mark.parametrize("changed", ["data", "code", "libraries", "key"])
def test_a_figure_is_computed_anew_after_a_change_of(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    for turn, words in enumerate(("old", "old", "new")):
        said = {"data": "old", "code": "old", "libraries": "old", "key": "old", changed: words}
        data, code = tmp_path / f"{turn} data", tmp_path / f"{turn} code" / "monitor" / "model"
        for folder in (data, code):
            folder.mkdir(parents=True)
        (data / "set.npz").write_text(said["data"])
        (code / "scorer.py").write_text(said["code"])
        monkeypatch.setattr(bench, "_ROOT", tmp_path / f"{turn} code")
        monkeypatch.setattr(bench, "version", lambda library, said=said: said["libraries"])
        Bench(data, cache=tmp_path / "cache").measure(
            "part.py", "set.*", {"seed": said["key"]}, lambda turn=turn: computed.append(turn) or {}
        )
    assert computed == [0, 2]


def test_files_are_told_apart_by_name_and_content(tmp_path: Path) -> None:
    digests = []
    for folder, files in (
        ("a", {"x": "1"}),
        ("b", {"x": "1"}),
        ("c", {"x": "2"}),
        ("d", {"y": "1"}),
        ("e", {"x": "1", "y": "2"}),
    ):
        (tmp_path / folder).mkdir()
        for name, content in files.items():
            (tmp_path / folder / name).write_text(content)
        digests.append(digest_files(tmp_path / folder, "x", "y"))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


def test_the_key_holds_the_code_that_figures_depend_on() -> None:
    known = {path for pattern in bench._CODE for path in bench._ROOT.glob(pattern)}
    modules = [importlib.import_module(f"tests.benchmarks.detection.{name}") for name in PARTS]
    assert {Path(module.__file__ or "") for module in modules} <= known
    for name in ("monitor.model.attribution", "monitor.model.scorer", "training.export", "training.detectors.alocc"):
        assert Path(importlib.import_module(name).__file__ or "") in known


def test_a_quick_run_has_fewer_seeds(tmp_path: Path) -> None:
    assert list(Bench(tmp_path).seeds(5)) == [0, 1, 2, 3, 4]
    assert list(Bench(tmp_path, is_quick=True).seeds(5)) == [0]
    assert list(Bench(tmp_path, is_quick=True).seeds(10, quick=3)) == [0, 1, 2]
    assert list(Bench(tmp_path, most_seeds=2).seeds(5)) == [0, 1]


def test_a_table_is_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Title", ("set", "AUROC", "s"), [["one", 0.98765, None]])
    heading, *lines = capsys.readouterr().out.strip().splitlines()
    assert re.fullmatch(r"### Title \(commit ([0-9a-f]{7,}(\+changes)?|unknown)\)", heading)
    assert lines == ["", "| set | AUROC | s |", "| --- | ---: | ---: |", "| one | 0.9877 |  |"]


def test_baselines_see_the_broken_relation_and_the_best_feature_does_not(
    line: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    train, test, y = line
    areas = {name: figures["auroc"] for name, figures in measure_auroc(score_baselines(train, test, y), y).items()}
    assert areas[PCA_RESIDUAL] > 0.99
    assert areas["5-NN"] > 0.95
    assert areas[BEST_FEATURE] < 0.8


def test_the_nearest_neighbours_are_distinct_rows() -> None:
    train = np.array([[0.0], [0.0], [0.0], [3.0]], np.float32)
    assert neighbour_distance(train, np.array([[0.0], [4.0], [0.0]], np.float32), 2).tolist() == [3.0, 4.0, 3.0]
    assert neighbour_distance(train, np.array([[5.0]], np.float32), 5).tolist() == [5.0]


def test_half_of_the_normal_rows_train_and_nothing_is_lost() -> None:
    values = np.arange(30.0).reshape(-1, 1)
    y = np.repeat([0, 1], [20, 10])
    rows = split_normals(Table(values, y), seed=3)
    assert len(rows.X_train) == 10
    assert rows.y_test.tolist() == [0] * 10 + [1] * 10
    assert len(np.unique(np.concatenate([rows.X_train, rows.X_test]))) == 30


def test_as_many_rows_are_flagged_as_there_are_anomalies() -> None:
    assert top_f1(np.array([0, 1, 1, 0]), np.array([0.9, 0.8, 0.1, 0.2])) == pytest.approx(0.5)
    assert top_f1(np.array([0, 1, 1, 0]), np.ones(4)) == pytest.approx(0.5)


def test_the_best_f1_is_that_of_the_best_threshold() -> None:
    assert best_f1(np.array([0, 0, 1, 1]), np.array([0.1, 0.8, 0.7, 0.9])) == pytest.approx(0.8)


def test_a_discriminator_at_one_half_tells_nothing_apart() -> None:
    is_other = np.array([False, False, True, True])
    assert probability_gap(is_other, -np.log(np.full(4, 0.5))) == pytest.approx(0)
    assert probability_gap(is_other, -np.log(np.array([0.9, 0.7, 0.2, 0.2]))) == pytest.approx(0.6)


def test_the_same_test_images_are_drawn_each_time_whatever_they_show() -> None:
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    first, second = (
        draw_test_images(Images(rows, rows, digits, 1), 4)
        for digits in (np.arange(10, dtype=np.uint8), np.ones(10, np.uint8))
    )
    assert first.X_test.tolist() == second.X_test.tolist()
    assert (first.X_test[:, 0] == 2 * first.digits).all()
    assert len(set(first.digits)) == 4


def test_the_last_line_names_the_commit(capsys: pytest.CaptureFixture[str]) -> None:
    assert report({"f1": 0.5}, {"f1": lambda f1: f1 > 0.6}) == 1
    missed, last = capsys.readouterr().out.splitlines()
    assert missed == "missed: f1 = 0.5"
    assert json.loads(last) == {"f1": 0.5, "commit": describe_commit()}


def test_one_feature_is_planted_and_a_residual_there_names_it() -> None:
    schema = Schema(name="s", features=(Feature(name="a", kind="numeric"), Feature(name="b", kind="categorical")))
    frame = pl.DataFrame({"a": np.arange(8.0), "b": ["x", "y"] * 4})
    preprocessor = fit_preprocessor(frame, schema)
    X = preprocessor.transform(frame).X
    planted, places = plant(preprocessor, X, np.random.default_rng(0))
    assert set(places) == {0, 1}
    residual = np.abs(planted - X)
    assert ((residual[:, 0] > 0) == (places == 0)).all()
    assert (residual[:, 1:].sum(axis=1) == 2 * (places == 1)).all()
    assert rank_planted(preprocessor, Explanation(X, residual), places) == {"top1": 1.0, "top3": 1.0}
    assert rank_planted(preprocessor, Explanation(X, residual), 1 - places) == {"top1": 0.0, "top3": 1.0}


def test_an_unknown_part_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_arguments(["--parts", "kdd99,kdd98", "--data", str(tmp_path)])
    assert "expected some of kdd99, paper" in capsys.readouterr().err


def test_a_quick_run_takes_fewer_parts_unless_they_are_named(tmp_path: Path) -> None:
    assert set(read_arguments(["--quick", "--data", str(tmp_path)]).parts) < set(PARTS)
    assert read_arguments(["--quick", "--parts", "goad", "--data", str(tmp_path)]).parts == ("goad",)


@pytest.mark.parametrize("name", PARTS)
def test_every_part_can_be_run(name: str) -> None:
    assert callable(importlib.import_module(f"tests.benchmarks.detection.{name}").run)
