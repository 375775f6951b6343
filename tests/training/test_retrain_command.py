"""`ganwatch retrain` from the command line: with TensorFlow, from rows to a champion."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from monitor.model.lease import Lease
from monitor.model.registry import Registry
from tests import machines
from tests.challengers import committed
from training.challenger import ChallengerPlan, training_plan

pytestmark = pytest.mark.training

RATE = ("--target-alert-rate", "0.02")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """features.toml, a registry whose champion is the committed model, and newer rows."""
    (tmp_path / "features.toml").write_text(machines.FEATURES_TOML)
    registry = Registry(str(tmp_path / "registry"))
    version = registry.publish(committed().path)
    registry.promote("machines", version, author="human", reason="the first one")
    machines.readings(4000, seed=90).write_csv(tmp_path / "new.csv")
    return tmp_path


def ganwatch(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "monitor.cli", "retrain", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end_in_training(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Sends a signal once steps are made, and waits for the end."""
    assert process.stderr is not None
    next(line for line in process.stderr if "training step" in line)
    process.send_signal(number)
    process.communicate(timeout=30)


def test_the_champion_s_configuration_is_trained_on_new_rows_and_promoted(folder: Path) -> None:
    process = ganwatch(folder, "--data", "new.csv", *RATE, "--json")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert (result["outcome"], result["model"], result["resumed"]) == ("promoted", "machines", False)
    registry = Registry(str(folder / "registry"))
    log = registry.promotions("machines")
    assert (log[-1].champion, log[-1].author, log[-1].anchor) == (result["version"], "gate", log[0].champion)
    old, new = (registry.fetch_manifest("machines", entry.champion) for entry in log)
    assert new.configuration["options"]["latent_dim"] == old.configuration["options"]["latent_dim"] == 3
    assert new.metrics["gate"]["verdict"] == "passed"
    steps = [json.loads(line) for line in err.splitlines() if '"retrain_step"' in line]
    assert [step["step"] for step in steps] == list(result["seconds"])
    assert all(step["seconds"] >= 0 for step in steps)


def test_options_that_the_detector_no_longer_has_are_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    manifest = committed().manifest
    plan = training_plan(manifest, ChallengerPlan())
    manifest.configuration["options"]["of_long_ago"] = 1
    assert training_plan(manifest, ChallengerPlan()) == plan
    (record,) = caplog.records
    assert record.__dict__["options"] == ["of_long_ago"]


def test_a_refused_challenger_ends_with_4_and_says_which_check(folder: Path) -> None:
    process = ganwatch(folder, "--data", "new.csv", *RATE, "--option", "steps=2")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 4, err
    assert ": refused; " in out
    assert "error of expected values against the champion is 0." in out  # prototypes alone rank anomalies as well
    registry = Registry(str(folder / "registry"))
    assert len(registry.promotions("machines")) == 1
    assert len(registry.versions("machines")) == 2


def test_a_resident_trainer_retrains_until_it_is_told_to_stop(folder: Path) -> None:
    process = ganwatch(
        folder, "--data", "new.csv", *RATE, "--option", "steps=50", "--every", "2s", "--jitter", "1s", "--json"
    )
    assert process.stdout is not None
    outcomes = [json.loads(process.stdout.readline())["outcome"] for _ in range(2)]
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert set(outcomes) <= {"promoted", "refused"}
    assert Registry(str(folder / "registry")).versions("machines")


def test_killed_in_the_midst_of_training_it_harms_nothing(folder: Path) -> None:
    process = ganwatch(folder, "--data", "new.csv", *RATE, "--lease", "2s")
    end_in_training(process, signal.SIGKILL)
    registry = Registry(str(folder / "registry"))
    assert len(registry.versions("machines")) == 1
    time.sleep(2)
    process = ganwatch(folder, "--data", "new.csv", *RATE, "--lease", "2s")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert len(registry.promotions("machines")) == 2


def test_told_to_stop_it_gives_the_lease_back(folder: Path) -> None:
    process = ganwatch(folder, "--data", "new.csv", *RATE)
    end_in_training(process, signal.SIGTERM)
    assert process.returncode == 143
    registry = Registry(str(folder / "registry"))
    assert len(registry.versions("machines")) == 1
    assert Lease(registry.store, "machines", holder="next", ttl_s=9).acquire() is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "retrain: give either --data FILE|TOPIC or --archive URL"),
        (["--data", "new.csv", "--archive", "a"], "retrain: give either --data FILE|TOPIC or --archive URL"),
        (["--data", "new.csv", "--feedback", "said.jsonl"], "--feedback: tells of alerts by records of the archive"),
        (["--archive", "a", "--label", "y"], "--label: is a column of a file"),
        (["--archive", "nothing"], "archive nothing: holds no records of model 'machines' with this schema"),
        (["--data", "absent.csv"], "no such file"),
        (["--data", "few.csv"], "few.csv: 50 rows are too few to retrain; at least 200 are needed"),
        (["--data", "new.csv", "--every", "soon"], "--every: expected a duration such as 90s"),
    ],
)
def test_what_cannot_be_retrained_is_one_clear_line_and_changes_nothing(
    folder: Path, arguments: list[str], sentence: str
) -> None:
    pl.read_csv(folder / "new.csv").head(50).write_csv(folder / "few.csv")
    process = ganwatch(folder, *arguments)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    last = err.splitlines()[-1]
    assert last.startswith("ganwatch: ")
    assert sentence in last
    assert "Traceback" not in err
    assert len(Registry(str(folder / "registry")).versions("machines")) == 1
