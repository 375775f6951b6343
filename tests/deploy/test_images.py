"""What the Dockerfiles, `.dockerignore` and the constraints promise, where there is no Docker engine to ask."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.deploy.compose import DEPLOY, ROOT

MONITOR = DEPLOY / "Dockerfile.monitor"
TRAINER = DEPLOY / "Dockerfile.trainer"
CONSTRAINTS = DEPLOY / "constraints.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

each_image = pytest.mark.parametrize("file", [MONITOR, TRAINER], ids=lambda file: file.suffix[1:])


def instructions(file: Path) -> list[tuple[str, str]]:
    """Instruction and argument of each line, continued lines joined."""
    text = re.sub(r"\\\n", " ", file.read_text(encoding="utf-8"))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def last(file: Path, instruction: str) -> str:
    return [argument for name, argument in instructions(file) if name == instruction][-1]


def health_check(file: Path) -> list[str]:
    """The command of HEALTHCHECK, in its exec form."""
    command: list[str] = json.loads(last(file, "HEALTHCHECK").partition("CMD")[2])
    return command


@each_image
def test_an_image_runs_ganwatch_without_root(file: Path) -> None:
    assert last(file, "USER") == "10001:10001"
    assert json.loads(last(file, "ENTRYPOINT")) == ["ganwatch"]


@each_image
def test_nothing_in_an_image_becomes_root_again_or_lends_its_rights(file: Path) -> None:
    final = instructions(file)[[name for name, _ in instructions(file)].index("FROM", 1) :]
    assert [argument for name, argument in final if name == "USER"] == ["10001:10001"]
    after = [name for name, _ in final][[name for name, _ in final].index("USER") :]
    assert (
        set(after) & {"RUN", "COPY", "ADD"} == set()
    )  # whatever is installed is root's and cannot be changed by ganwatch
    assert re.findall(r"setcap|chmod|sudo|setuid", file.read_text(encoding="utf-8")) == []


@each_image
def test_an_image_holds_no_secret_and_takes_nothing_from_elsewhere(file: Path) -> None:
    names = [name for name, _ in instructions(file)]
    assert set(names) & {"ADD", "ARG"} == set()
    assert (
        re.findall(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|_KEY\b|https?://(?!127\.)", file.read_text(encoding="utf-8"))
        == []
    )


@each_image
def test_an_image_uses_a_python_that_the_project_supports(file: Path) -> None:
    bases = {argument.split()[0] for name, argument in instructions(file) if name == "FROM"}
    assert bases == {"python:3.12-slim"}
    assert SpecifierSet(PROJECT["requires-python"]).contains("3.12.0")


@each_image
def test_an_image_installs_the_tested_versions(file: Path) -> None:
    installs = [argument for name, argument in instructions(file) if name == "RUN" and "pip install" in argument]
    assert len(installs) == 1
    assert "--constraint deploy/constraints.txt" in installs[0]


def test_only_the_trainer_installs_what_training_needs() -> None:
    def wanted(file: Path) -> str:
        return shlex.split(next(argument for name, argument in instructions(file) if "pip install" in argument))[-1]

    assert wanted(MONITOR) == ".[encodings]"
    assert wanted(TRAINER) == ".[train,encodings]"
    base = {canonicalize_name(Requirement(entry).name) for entry in PROJECT["dependencies"]}
    assert base & {"tensorflow", "pandas", "keras", "scikit-learn"} == set()


@each_image
def test_all_that_is_copied_is_in_the_checkout_and_let_through_by_dockerignore(file: Path) -> None:
    let_through = {
        line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = [
        source
        for name, argument in instructions(file)
        if name == "COPY" and not argument.startswith("--from")
        for source in argument.split()[:-1]
    ]
    assert set(copied) == let_through
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_everything_else_stays_out_of_the_build_context() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in lines if line and not line.startswith("#")) == "*"


def test_the_health_check_of_the_monitor_needs_nothing_but_python() -> None:
    command = health_check(MONITOR)
    assert command[:2] == ["python", "-c"]
    compile(command[2], "HEALTHCHECK", "exec")
    assert "/healthz" in command[2]


def test_each_constraint_pins_one_version_and_names_no_index() -> None:
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.!]*", line)] == []
    assert len({line.split("==")[0] for line in lines}) == len(lines)
    assert "://" not in CONSTRAINTS.read_text()


def test_the_constraints_pin_each_dependency_within_the_range_the_project_asks_for() -> None:
    pins = dict(line.split("==") for line in CONSTRAINTS.read_text().splitlines() if "==" in line and line[0] != "#")
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    wanted = [Requirement(entry) for entries in lists for entry in entries]
    outside = [
        str(requirement)
        for requirement in wanted
        if requirement.name != PROJECT["name"]
        and not requirement.specifier.contains(Version(pins[canonicalize_name(requirement.name)]))
    ]
    assert outside == []
