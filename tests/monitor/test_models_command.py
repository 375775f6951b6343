"""`ganwatch models`: what it shows, what it writes into the log, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from monitor import cli
from monitor.catalogue.entries import Difference, differences
from monitor.errors import ConfigError
from monitor.model.bundle import FILES, Bundle, read_manifest, write_bundle
from monitor.model.registry import Registry
from tests.machines import FEATURES_TOML

GATE = {
    "verdict": "refused",
    "checks": [
        {"name": "alert rate on reference normals", "limit": "0.0005 to 0.002", "value": 0.0012, "verdict": "passed"},
        {"name": "AUROC on the frozen suite", "limit": "at least 0.9", "value": 0.71, "verdict": "refused"},
    ],
}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@dataclass
class Operator:
    """Somebody in a folder with a registry of three versions, the second of which is the champion."""

    folder: Path
    registry: Registry
    versions: list[str]
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def models(self, *arguments: str) -> Outcome:
        self.monkeypatch.setattr(sys, "argv", ["ganwatch", "models", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        shown = self.capsys.readouterr()
        return Outcome(int(end.value.code or 0), shown.out, shown.err)

    def json(self, *arguments: str) -> dict[str, object]:
        outcome = self.models(*arguments, "--json")
        assert (outcome.code, outcome.err, outcome.out.count("\n")) == (0, "", 1)
        content: dict[str, object] = json.loads(outcome.out)
        return content


def publish(registry: Registry, source: Bundle, folder: Path, month: int) -> str:
    """A version of that month; the third has met the gate and was trained differently."""
    manifest, _ = read_manifest(source.path)
    changes: dict[str, object] = {"created_at": f"2026-0{month}-01T00:00:00.000000+00:00"}
    if month == 3:
        changes["metrics"] = manifest.metrics | {"gate": GATE, "steps": 99}
        changes["data"] = manifest.data | {"train_rows": 50_000}
    contents = {name: (source.path / name).read_bytes() for name in FILES}
    write_bundle(folder / str(month), msgspec.structs.replace(manifest, **changes), contents)
    return registry.publish(folder / str(month))


@pytest.fixture
def operator(
    tmp_path: Path, machines_bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Operator:
    for name in [name for name in os.environ if name.startswith("GANWATCH_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "features.toml").write_text(FEATURES_TOML)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "160")
    registry = Registry(str(folder / "registry"))
    versions = [publish(registry, machines_bundle, tmp_path, month) for month in (1, 2, 3)]
    registry.promote("machines", versions[0], author="human", reason="the first one")
    registry.promote("machines", versions[1], author="gate", reason="all checks passed")
    return Operator(folder, registry, versions, capsys, monkeypatch)


def test_all_versions_are_listed_newest_first_with_their_roles_and_the_log(operator: Operator) -> None:
    outcome = operator.models("list")
    assert (outcome.code, outcome.err) == (0, "")
    lines = [line for line in outcome.out.splitlines() if "Z-" in line]
    listed = [next(version for version in operator.versions if version in line) for line in lines]
    first, second, third = operator.versions
    assert listed == [third, second, first, second, first]
    assert ("refused" in lines[0], "champion" in lines[1], "anchor" in lines[2]) == (True, True, True)
    assert "gate" in lines[3]
    assert "all checks passed" in lines[3]
    assert "the first one" in lines[4]


def test_a_narrow_terminal_never_cuts_the_name_of_a_version(operator: Operator) -> None:
    operator.monkeypatch.setenv("COLUMNS", "60")
    out = operator.models("list").out
    assert all(version in out for version in operator.versions)


def test_the_list_for_programs_holds_the_same(operator: Operator) -> None:
    (model,) = operator.json("list")["models"]  # type: ignore[misc]
    first, second, third = operator.versions
    assert model["model"] == "machines"
    assert [entry["version"] for entry in model["versions"]] == [third, second, first]
    assert [entry["roles"] for entry in model["versions"]] == [[], ["champion"], ["anchor"]]
    assert [entry["train_rows"] for entry in model["versions"]] == [50_000, 4200, 4200]
    assert [entry["gate"] for entry in model["versions"]] == ["refused", None, None]
    assert [(entry["champion"], entry["author"]) for entry in model["promotions"]] == [
        (second, "gate"),
        (first, "human"),
    ]


def test_an_empty_registry_says_how_to_fill_it(operator: Operator) -> None:
    outcome = operator.models("list", "--registry", "elsewhere")
    assert outcome.code == 0
    assert outcome.out == "elsewhere holds no models yet; `ganwatch train --registry elsewhere` makes one\n"
    assert operator.json("list", "--registry", "elsewhere")["models"] == []


def test_a_damaged_version_does_not_hide_the_others(operator: Operator) -> None:
    manifest = operator.folder / "registry" / "models" / "machines" / operator.versions[0] / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    outcome = operator.models("list")
    assert outcome.code == 0
    assert "damaged: was changed after" in outcome.out
    assert all(version in outcome.out for version in operator.versions)


def test_the_champion_is_shown_by_default_and_the_gate_s_checks_with_it(operator: Operator) -> None:
    assert operator.json("show")["version"] == operator.versions[1]
    shown = operator.json("show", "latest")
    assert (shown["version"], shown["roles"], shown["promotions"]) == (operator.versions[2], [], [])
    out = operator.models("show", operator.versions[2]).out
    line = next(line for line in out.splitlines() if "AUROC on the frozen suite" in line)
    assert all(part in line for part in ("at least 0.9", "0.71", "refused"))


def test_a_version_s_training_report_is_named_where_there_is_one(operator: Operator) -> None:
    version = operator.versions[2]
    assert operator.json("show", version)["report"] is None
    path = f"models/machines/{version}/report.html"
    operator.registry.store.write(path, b"<!DOCTYPE html>")
    assert operator.json("show", version)["report"] == f"registry/{path}"
    assert f"\nreport: registry/{path}\n" in operator.models("show", version).out
    assert operator.json("show")["report"] is None


def test_a_version_is_shown_with_every_promotion_that_names_it(operator: Operator) -> None:
    operator.registry.challenge("machines", operator.versions[2], author="gate", reason="shadow for 30 minutes")
    promotions = operator.json("show", "latest")["promotions"]
    assert [entry["reason"] for entry in promotions] == ["shadow for 30 minutes"]  # type: ignore[attr-defined]
    assert "shadow for 30 minutes" in operator.models("show", "latest").out


def test_differences_name_the_keys_that_differ_and_no_others(operator: Operator) -> None:
    found = operator.json("diff", operator.versions[0], "latest")
    assert (found["before"], found["after"]) == (operator.versions[0], operator.versions[2])
    differing = {entry["key"]: (entry["before"], entry["after"]) for entry in found["differences"]}  # type: ignore[attr-defined]
    assert differing["data.train_rows"] == (4200, 50_000)
    assert differing["metrics.steps"] == (1500, 99)
    assert differing["metrics.gate.checks.AUROC on the frozen suite.value"] == (None, 0.71)
    assert set(differing) - {key for key in differing if key.startswith("metrics.gate")} == {
        "created_at",
        "data.train_rows",
        "metrics.steps",
    }
    assert "data.train_rows" in operator.models("diff", operator.versions[0], "latest").out


def test_a_changed_feature_is_a_difference_of_its_name(machines_bundle: Bundle) -> None:
    manifest = machines_bundle.manifest
    features = [dict(feature) for feature in manifest.schema["features"]]
    features[0]["missing"] = "reject"
    changed = msgspec.structs.replace(manifest, schema=manifest.schema | {"features": features[:-1]})
    assert differences(manifest, changed) == [
        Difference("schema.features.load.missing", "impute", "reject"),
        Difference("schema.features.cooling.kind", "boolean", None),
        Difference("schema.features.cooling.missing", "impute", None),
    ]


def test_a_version_does_not_differ_from_itself(operator: Operator) -> None:
    assert operator.models("diff", operator.versions[1]).out == (
        f"{operator.versions[1]} and {operator.versions[1]} state the same\n"
    )


def test_a_promotion_by_hand_is_logged_with_time_reason_and_author(operator: Operator) -> None:
    outcome = operator.models("promote", "latest", "--reason", "the gate is too strict")
    assert outcome.code == 0
    assert outcome.out == (
        f"model machines: champion is {operator.versions[2]} (promote by human: the gate is too strict)\n"
    )
    last = operator.registry.last_promotion("machines")
    assert last is not None
    assert (last.champion, last.author, last.reason) == (operator.versions[2], "human", "the gate is too strict")
    assert last.anchor == operator.versions[0]
    assert last.time.endswith("+00:00")


def test_only_a_human_moves_the_anchor(operator: Operator) -> None:
    promotion = operator.json("promote", "latest", "--anchor")["promotion"]
    assert promotion["anchor"] == operator.versions[2]  # type: ignore[index]


def test_a_rollback_goes_back_and_says_so(operator: Operator) -> None:
    outcome = operator.models("rollback", "--reason", "too many alerts")
    assert outcome.out == f"model machines: champion is {operator.versions[0]} (rollback by human: too many alerts)\n"
    assert operator.registry.champion("machines") == operator.versions[0]
    outcome = operator.models("rollback")
    assert outcome.code == 4
    assert outcome.err == (
        "ganwatch: registry/aliases/machines: there is no champion to go back to; `ganwatch models promote VERSION` names "
        "another one\n"
    )


@pytest.mark.parametrize("arguments", [["show", "v9"], ["diff", "v9"], ["promote", "v9"]])
def test_an_unknown_version_is_answered_with_known_ones(operator: Operator, arguments: list[str]) -> None:
    outcome = operator.models(*arguments)
    assert outcome.code == 4
    assert outcome.err == (
        f"ganwatch: registry/models/machines: no version 'v9'; the newest ones are {', '.join(operator.versions)}; "
        "`ganwatch models list` shows all\n"
    )


def test_a_mistyped_version_is_answered_with_the_closest_one(operator: Operator) -> None:
    outcome = operator.models("show", operator.versions[0][:-1])
    assert f"did you mean {operator.versions[0]};" in outcome.err


def test_a_damaged_bundle_cannot_be_promoted(operator: Operator) -> None:
    file = operator.folder / "registry" / "models" / "machines" / operator.versions[2] / "scorer.tflite"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    outcome = operator.models("promote", "latest")
    assert outcome.code == 4
    assert "scorer.tflite: was changed after it was written" in outcome.err
    assert operator.registry.champion("machines") == operator.versions[1]


def test_a_bundle_for_another_schema_cannot_be_promoted(operator: Operator) -> None:
    (operator.folder / "features.toml").write_text(FEATURES_TOML.replace('"mode"', '"tool"'))
    outcome = operator.models("promote", "latest")
    assert outcome.code == 4
    assert "was trained for another schema: feature 'tool' is not in the bundle" in outcome.err
    assert operator.registry.champion("machines") == operator.versions[1]


def test_without_a_schema_the_only_model_is_meant(operator: Operator, tmp_path: Path, machines_bundle: Bundle) -> None:
    (operator.folder / "features.toml").unlink()
    assert operator.json("show")["version"] == operator.versions[1]
    manifest, _ = read_manifest(machines_bundle.path)
    contents = {name: (machines_bundle.path / name).read_bytes() for name in FILES}
    write_bundle(tmp_path / "other", msgspec.structs.replace(manifest, model="presses"), contents)
    operator.registry.publish(tmp_path / "other")
    outcome = operator.models("show")
    assert outcome.code == ConfigError.exit_code
    assert outcome.err == (
        "ganwatch: --model: which model is meant? features.toml is not here, and registry holds machines, presses\n"
    )
    assert operator.models("show", "--model", "machines").code == 0
    assert operator.models("show", "--model", "mills").code == 4


def test_the_commands_work_on_an_s3_registry(operator: Operator, s3: Callable[[], str], tmp_path: Path) -> None:
    url = f"{s3()}/models"
    remote = Registry(url)
    for month in (1, 2):
        remote.publish(tmp_path / str(month))
    assert operator.models("promote", operator.versions[0], "--registry", url).code == 0
    assert operator.models("promote", operator.versions[1], "--registry", url).code == 0
    assert operator.models("rollback", "--registry", url).code == 0
    (model,) = operator.json("list", "--registry", url)["models"]  # type: ignore[misc]
    assert [entry["action"] for entry in model["promotions"]] == ["rollback", "promote", "promote"]


def test_no_command_loads_tensorflow(operator: Operator) -> None:
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['training'] = None; "
        "sys.argv = ['ganwatch', 'models', 'promote', 'latest']; from monitor.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=operator.folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["list", "show", "diff", "promote", "rollback"])
def test_every_option_is_explained(operator: Operator, command: str) -> None:
    outcome = operator.models(command, "--help")
    assert outcome.code == 0
    options = [line for line in outcome.out.splitlines() if line.strip().startswith("-")]
    assert len(options) >= 4
    assert all(len(line.split("  ", 3)[-1].strip()) > 5 for line in options)
