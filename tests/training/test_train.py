"""`ganwatch train` and `ganwatch evaluate` from the command line to the bundle, with TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from monitor.errors import BundleError, ConfigError
from monitor.model.bundle import Bundle, load_bundle
from monitor.model.registry import Registry
from tests import machines
from training.detectors import DETECTORS
from training.history import History
from training.split import Split, split_rows
from training.train import TrainedModel, TrainingPlan, rows_per_day, train_model

pytestmark = pytest.mark.training

SMALL = {"steps": 150, "latent_dim": 3, "encoder_widths": [16], "generator_widths": [16], "discriminator_width": 16}
FLAGS = [part for key, value in SMALL.items() if key != "steps" for part in ("--option", f"{key}={json.dumps(value)}")]


def ganwatch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in a folder."""
    command = [sys.executable, "-m", "monitor.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=180)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """features.toml, normal rows and labelled rows as a user has them."""
    (tmp_path / "features.toml").write_text(machines.FEATURES_TOML)
    machines.readings(2000, seed=30).with_columns(line=pl.lit("A")).write_csv(tmp_path / "normal.csv")
    labelled = machines.readings(2000, seed=31, anomalies=100)
    labelled.with_columns(broken=pl.int_range(pl.len()) >= 1900).write_csv(tmp_path / "labelled.csv")
    return tmp_path


def trained(seed: int, registry: Path) -> TrainedModel:
    """A small model of the machines."""
    history = History(frame=machines.readings(1500, seed=32), source="test", times=None)
    return train_model(history, machines.SCHEMA, Registry(str(registry)), TrainingPlan(options=SMALL, seed=seed))


def test_training_a_file_makes_a_champion_that_scores_and_evaluates(folder: Path) -> None:
    (folder / "ganwatch.toml").write_text("target_alert_rate = 0.01\n")
    done = ganwatch(folder, "train", "--data", "normal.csv", "--config", "ganwatch.toml", *FLAGS, "--steps", "1200")
    assert done.returncode == 0, done.stderr
    assert "1400 to train, 600 to calibrate (split at random)" in done.stdout
    assert "ignored    columns the schema does not name: line" in done.stdout
    assert "10,000.0 expected on a million records of normal data at" in done.stdout
    assert done.stderr == ""
    registry = Registry(str(folder / "registry"))
    report = f"registry/models/machines/{registry.champion('machines')}/report.html"
    assert f"report     {report}\n" in done.stdout
    for part in ("<h3>Losses</h3>", "a random half of the held-out rows", "normal.csv"):
        assert part in (folder / report).read_text(encoding="utf-8")
    bundle = load_bundle(registry.fetch("machines", registry.champion("machines")), expected_schema=machines.SCHEMA)
    assert bundle.manifest.metrics["export_difference"] <= 1e-4
    assert len(bundle.calibration.scores) == 600
    done = ganwatch(folder, "evaluate", "labelled.csv", "--label", "broken", "--target-alert-rate", "0.02", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["anomalies"] == 100
    assert figures["auroc"] > 0.9
    precision, recall = figures["precision"], figures["recall"]
    assert figures["f1"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_labelled_anomalies_stay_out_of_training_and_choose_when_to_stop(folder: Path) -> None:
    done = ganwatch(folder, "train", "--data", "labelled.csv", "--label", "broken", "--json", *FLAGS, "--steps", "4000")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    data = summary["data"]
    assert data["labelled_anomalies"] == 100
    assert f"labels     100 of {data['rows']} rows are anomalies, and are not learned from" in done.stderr
    assert data["train_rows"] + data["calibration_rows"] + data["validation_rows"] == 2000
    assert data["validation_rows"] > 100
    metrics = summary["metrics"]
    evaluated = [step for step, _ in metrics["course"]["evaluations"]]
    assert len(evaluated) - 1 - evaluated.index(metrics["best_step"]) == 10
    assert metrics["steps"] < 4000
    assert summary["configuration"]["options"]["early_stop_num"] is None  # what a retraining, without labels, inherits
    report = (folder / summary["report"]).read_text(encoding="utf-8")
    for part in ("<h3>ROC curve</h3>", "With 100 anomalies among the rows", "<h3>Labelled anomalies</h3>"):
        assert part in report


def test_a_training_on_few_rows_says_that_nothing_will_be_flagged(folder: Path) -> None:
    machines.readings(300, seed=36).write_csv(folder / "few.csv")
    done = ganwatch(folder, "train", "--data", "few.csv", "--json", *FLAGS, "--steps", "50")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    reason = "no record can be flagged, however extreme: target_alert_rate = 0.001"
    assert summary["nothing_flagged_because"].startswith(reason)
    assert f"alerts none: {reason}" in " ".join(done.stderr.split())
    assert f"With the settings of this training {reason}" in (folder / summary["report"]).read_text(encoding="utf-8")
    done = ganwatch(folder, "evaluate", "labelled.csv", "--label", "broken")
    assert f"nothing_flagged_because {reason}" in " ".join(done.stdout.split())
    (folder / "pot.toml").write_text('threshold_method = "pot"\n')
    done = ganwatch(folder, "train", "--data", "few.csv", "--config", "pot.toml", *FLAGS, "--steps", "50")
    assert "10,989.0 expected on a million records" in done.stdout  # one in 91


def test_names_and_files_are_shown_as_they_are_and_a_mistyped_label_is_named(folder: Path) -> None:
    rows = pl.read_csv(folder / "labelled.csv").rename({"broken": "is [/b] broken"}).with_columns(speed=1)
    rows.rename({"speed": "speed [m/s]"}).write_csv(folder / "rows [v1].csv")
    flags = ["--label", "is [/b] broken", "--anomaly", "true", "--anomaly", "tru", *FLAGS, "--steps", "50"]
    done = ganwatch(folder, "train", "--data", "rows [v1].csv", *flags)
    assert done.returncode == 0, done.stderr
    assert "2000 rows from rows [v1].csv\n" in done.stdout
    assert "columns the schema does not name: speed [m/s]\n" in done.stdout
    assert "--anomaly: no row is labelled 'tru'; the labels are 'false' (1900 rows), 'true' (100 rows)\n" in done.stdout
    assert "labels     100 of 2000 rows are anomalies" in done.stdout
    written = ganwatch(folder, "init", "--from", "rows [v1].csv", "--out", "new [1].toml").stdout
    assert "ganwatch train --schema 'new [1].toml' --data 'rows [v1].csv'\n" in written


def test_rows_without_a_label_do_not_count_in_an_evaluation(folder: Path) -> None:
    ganwatch(folder, "train", "--data", "normal.csv", *FLAGS, "--steps", "50")
    known = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.col("broken"))
    pl.read_csv(folder / "labelled.csv").with_columns(broken=known).write_csv(folder / "half.csv")
    done = ganwatch(folder, "evaluate", "half.csv", "--label", "broken", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["rows"], figures["unlabelled"], figures["anomalies"]) == (1000, 1000, 50)
    done = ganwatch(folder, "evaluate", "half.csv", "--label", "broken", "--anomaly", "yes")
    assert done.returncode == 2
    problem = "all 1000 labelled rows of half.csv are normal; both kinds are needed. The labels are 'false' (950 rows), 'true' (50 rows)"
    assert problem in done.stderr


def test_fields_of_the_schema_that_no_row_has_are_named_and_the_next_command_fits(folder: Path) -> None:
    (folder / "features.toml").rename(folder / "dated.toml")
    pl.read_csv(folder / "normal.csv").with_columns(machine=pl.lit("m1")).write_csv(folder / "normal.csv")
    flags = ["--schema", "dated.toml", "--model", "other", *FLAGS, "--steps", "50"]
    done = ganwatch(folder, "train", "--data", "normal.csv", *flags)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "absent reading_id, read_at: named in features.toml beside the features, in no row" in said
    assert "next ganwatch run --schema dated.toml --registry registry --model other" in said


def test_the_detectors_and_their_options_are_listed(folder: Path) -> None:
    listed = ganwatch(folder, "detectors")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == sorted(DETECTORS)
    options = ganwatch(folder, "detectors", "efficient_gan", "--preset", "paper").stdout.splitlines()
    assert [line.split()[0] for line in options] == list(DETECTORS["efficient_gan"].options_type.model_fields)
    assert next(line for line in options if line.startswith("scaling")).split()[1] == "none"


def test_a_feature_that_no_row_has_is_named(folder: Path) -> None:
    rows = machines.readings(400, seed=5).with_columns(pl.lit(None, pl.Float64).alias("load"))
    rows.write_csv(folder / "without_load.csv")
    done = ganwatch(folder, "train", "--data", "without_load.csv", *FLAGS, "--steps", "50")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())  # without the line breaks of a narrow terminal
    assert "missing load: in every row; take it out of features.toml, or train on rows that have it" in said
    assert "constant" not in said


def test_a_number_out_of_all_proportion_is_named_and_the_others_are_told_apart(folder: Path) -> None:
    rows, load = machines.readings(400, seed=5), pl.col("load")
    rows.with_columns(load=pl.when(pl.int_range(pl.len()) % 130 == 7).then(1e300).otherwise(load)).write_csv(
        folder / "absurd.csv"
    )
    flags = ["--data", "absurd.csv", *FLAGS, "--steps", "50", "--registry", "absurd", "--json"]
    done = ganwatch(folder, "train", *flags)
    assert done.returncode == 0, done.stderr
    assert "extreme load (1e+300): out of all proportion to the other rows" in " ".join(done.stderr.split())
    summary = json.loads(done.stdout)
    assert summary["extreme_features"] == summary["data"]["extreme_features"] == {"load": 1e300}
    report = Path(folder, summary["report"]).read_text(encoding="utf-8")
    assert "load holds numbers out of all proportion, such as 1e+300" in report
    registry = Registry(str(folder / "absurd"))
    bundle = load_bundle(registry.fetch("machines", summary["version"]))
    usual = bundle.preprocessor.transform(machines.readings(400, seed=5)).X[:, 0]
    assert 0.5 < usual.std() < 2


def without_variety(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Rows that teach less than they should: the same a hundred times, of one class, or without a column that must be."""
    return {
        "constant": pl.concat([rows.head(1)] * 100).with_columns(broken=0),
        "normal_only": rows.with_columns(broken=0),
        "broken_only": rows.with_columns(broken=1),
        "without_pieces": rows.with_columns(broken=0, pieces=pl.lit(None, pl.Float64)),
    }


@pytest.mark.parametrize(
    ("name", "code", "sentences"),
    [
        (
            "constant",
            0,
            [
                "constant load, motor.current_a, motor.temperature_c, pieces, mode, cooling: one value only; any other one"
            ],
        ),
        ("normal_only", 0, ["280 to train, 120 to calibrate (split at random) labels 0 of 400 rows are anomalies"]),
        ("broken_only", 2, ["0 normal rows are too few", "by their labels 400 rows are anomalies, and --anomaly says"]),
        ("without_pieces", 2, ["column 'pieces' is missing in 400 rows", "drop those rows or say 'impute'"]),
    ],
)
def test_rows_without_variety_are_trained_on_or_refused_with_the_fix(
    folder: Path, name: str, code: int, sentences: list[str]
) -> None:
    without_variety(machines.readings(400, seed=5))[name].write_csv(folder / "rows.csv")
    done = ganwatch(folder, "train", "--data", "rows.csv", "--label", "broken", *FLAGS, "--steps", "50")
    assert done.returncode == code, done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    for sentence in sentences:
        assert sentence in said
    assert "Traceback" not in said
    assert (folder / "registry").exists() == (code == 0)


def test_the_same_seed_gives_the_same_model_and_another_seed_another(tmp_path: Path) -> None:
    def scores(seed: int, name: str) -> list[float]:
        version = trained(seed, tmp_path / name).version
        bundle = load_bundle(Registry(str(tmp_path / name)).fetch("machines", version))
        return bundle.calibration.scores.tolist()

    first, second, other = scores(3, "first"), scores(3, "second"), scores(4, "other")
    assert first == second
    assert first != other


def test_a_report_that_cannot_be_written_leaves_the_champion_as_it_was(tmp_path: Path) -> None:
    def fail(bundle: Bundle, _split: Split) -> None:
        assert registry.versions("machines") == [bundle.version]
        raise BundleError(bundle.version, "no report")

    registry = Registry(str(tmp_path))
    history = History(frame=machines.readings(300, seed=37), source="test", times=None)
    plan = TrainingPlan(options=SMALL | {"steps": 20})
    with pytest.raises(BundleError, match="no report"):
        train_model(history, machines.SCHEMA, registry, plan, report=fail)
    with pytest.raises(BundleError, match="has no champion"):
        registry.champion("machines")


def test_the_paper_preset_trains_on_unscaled_inputs(folder: Path) -> None:
    done = ganwatch(folder, "train", "--data", "normal.csv", "--preset", "paper", "--epochs", "1", "--json")
    assert done.returncode == 0, done.stderr
    options = json.loads(done.stdout)["configuration"]["options"]
    assert options["scaling"] == "none"
    assert options["learning_rate"] == 1e-5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "absent.csv"], "no such file"),
        (["--data", "normal.csv", "--detector", "magic"], "magic"),
        (["--data", "normal.csv", "--preset", "best"], "'best'"),
        (["--data", "normal.csv", "--steps", "5", "--epochs", "5"], "exclude each other"),
        (["--data", "normal.csv", "--option", "latent=4"], "unknown key 'latent'; known are batch_size, channels, "),
        (["--data", "normal.csv", "--label", "broken"], "no column 'broken'"),
        (["--data", "few.csv"], "7 normal rows are too few"),
        (["--data", "text.csv"], "column 'load'"),
        (["--data", "normal.csv", "--anomaly", "yes"], "--anomaly: says which labels mean anomaly; --label names"),
        (
            ["--data", "labelled.csv", "--label", "broken", "--anomaly", "yes"],
            "--anomaly: no row is labelled 'yes'; the labels are 'false' (1900 rows), 'true' (100 rows)",
        ),
        (["--data", "normal.csv", "--option", "trim"], "--option: expects KEY=VALUE, got 'trim' without a value"),
        (
            ["--data", "normal.csv", "--option", "steps=9", "--steps", "5"],
            "--option: steps: given as a flag of its own",
        ),
        (
            ["--data", "normal.csv", "--batch-size", "1000000"],
            "batch_size: Input should be less than or equal to 65536",
        ),
        (["--data", "normal.csv", "--model", "a/b"], "command line: model"),
        (["--data", "normal.csv", "--registry", "few.csv"], "registry 'few.csv': "),
        (["--data", "normal.csv", "--registry", "few.csv/deeper"], "is no folder that can be written to"),
    ],
)
def test_what_cannot_be_trained_is_one_clear_line_and_leaves_the_registry_alone(
    folder: Path, arguments: list[str], sentence: str
) -> None:
    rows = machines.readings(7, seed=33)
    rows.write_csv(folder / "few.csv")
    rows.with_columns(load=pl.lit("high")).write_csv(folder / "text.csv")
    done = ganwatch(folder, "train", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "registry").exists()


def test_rows_with_times_are_split_by_time_and_the_newest_calibrate() -> None:
    times = np.random.default_rng(0).permutation(100).astype(float) * 60
    history = History(frame=machines.readings(100, seed=34), source="test", times=times)
    split = split_rows(history, np.random.default_rng(0))
    assert len(split.calibrate) == 30
    assert times[split.train].max() < times[split.calibrate].min()
    assert rows_per_day(times) == pytest.approx(1440)


def test_fewer_than_twenty_normal_rows_are_refused() -> None:
    labels = np.array([True] * 30 + [False] * 19)
    history = History(frame=machines.readings(49, seed=35), source="test", times=None, labels=labels)
    with pytest.raises(ConfigError, match="19 normal rows are too few"):
        split_rows(history, np.random.default_rng(0))
