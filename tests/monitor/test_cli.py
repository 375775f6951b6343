"""The command: what it prints, where, and with which exit code, for all that needs no broker."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from prometheus_client import enable_created_metrics

from monitor import cli
from monitor.cli import parse_assignments
from monitor.errors import ConfigError
from monitor.model.bundle import MANIFEST
from monitor.model.registry import Registry
from monitor.settings import Settings
from tests.machines import FEATURES_TOML, REGISTRY, readings


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def only_line(self) -> str:
        """The one line on stderr; fails when there are more, or a traceback."""
        (line,) = [line for line in self.err.splitlines() if not line.startswith("{")]
        return line


@dataclass
class Terminal:
    """A folder in which commands run inside this process."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str) -> Outcome:
        self.monkeypatch.setattr(sys, "argv", ["ganwatch", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        shown = self.capsys.readouterr()
        return Outcome(int(end.value.code or 0), shown.out, shown.err)


@pytest.fixture
def terminal(
    machines_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    for name in [name for name in os.environ if name.startswith("GANWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(machines_folder)
    root, kafka = logging.getLogger(), logging.getLogger("kafka")
    before = root.handlers[:], root.level, kafka.level
    yield Terminal(machines_folder, capsys, monkeypatch)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    kafka.setLevel(before[2])
    enable_created_metrics()  # type: ignore[no-untyped-call]


@pytest.fixture
def readings_file(machines_folder: Path) -> str:
    readings(200, seed=5, anomalies=10).write_csv(machines_folder / "readings.csv")
    return "readings.csv"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_help_lists_the_commands_and_exit_codes(terminal: Terminal) -> None:
    outcome = terminal.run("--help")
    assert outcome.code == 0
    for command in ("init", "run", "score", "train", "evaluate", "simulate"):
        assert f"\n  {command} " in outcome.out
    assert "Exit codes: 2 configuration, 3 too many bad records, 4 model, 5 broker, 6 stuck." in " ".join(
        outcome.out.split()
    )


@pytest.mark.parametrize("command", ["init", "run", "score"])
def test_every_option_of_a_command_is_explained(terminal: Terminal, command: str) -> None:
    outcome = terminal.run(command, "--help")
    assert outcome.code == 0
    options = [line for line in outcome.out.splitlines() if line.strip().startswith("-")]
    assert len(options) >= 5
    assert all(len(line.split("  ", 3)[-1].strip()) > 5 for line in options)


def test_all_settings_are_listed_with_default_and_meaning(terminal: Terminal) -> None:
    lines = terminal.run("run", "--list-settings").out.splitlines()
    assert [line.split()[0] for line in lines] == list(Settings.model_fields)
    assert "http_port                9464             its port; 0 takes a free one" in lines


@pytest.mark.parametrize("arguments", [["run", "--no-such"], ["score"], ["no-such-command"], ["init"]])
def test_a_wrong_command_line_ends_with_2(terminal: Terminal, arguments: list[str]) -> None:
    assert terminal.run(*arguments).code == 2


def test_a_missing_schema_ends_with_2_and_the_remedy(terminal: Terminal) -> None:
    (terminal.folder / "features.toml").unlink()
    outcome = terminal.run("run")
    assert outcome.code == 2
    assert outcome.only_line == "ganwatch: features.toml: no such file; `ganwatch init --from FILE` writes one"


def test_a_schema_that_is_wrong_ends_with_2_and_all_its_problems(terminal: Terminal) -> None:
    (terminal.folder / "features.toml").write_text(FEATURES_TOML.replace("boolean", "bool").replace("load", "lo..ad"))
    outcome = terminal.run("run")
    assert outcome.code == 2
    assert outcome.only_line.startswith("ganwatch: features.toml: features.0.name: ")
    assert (
        "features.5.kind: Input should be 'numeric', 'categorical', 'boolean' or 'array', got 'bool'"
        in outcome.only_line
    )


def test_wrong_settings_end_with_2_and_one_line_for_all_of_them(terminal: Terminal) -> None:
    terminal.monkeypatch.setenv("GANWATCH_MAX_ROWZ", "7")
    outcome = terminal.run("run", "--set", "max_wait_s=soon", "--threshold", "101")
    assert outcome.code == 2
    assert outcome.only_line.startswith("ganwatch: settings: ")
    for part in ("unknown key 'max_rowz' (from GANWATCH_MAX_ROWZ)", "max_wait_s: ", "threshold: "):
        assert part in outcome.only_line


def test_a_registry_without_champion_ends_with_4_and_the_remedy(terminal: Terminal) -> None:
    outcome = terminal.run("run", "--registry", "empty")
    assert outcome.code == 4
    assert outcome.only_line == (
        "ganwatch: empty/aliases/machines: model 'machines' has no champion; `ganwatch train --registry empty` makes one "
        "(the registry holds no models)"
    )


def test_a_damaged_bundle_ends_with_4_and_the_file(terminal: Terminal) -> None:
    shutil.copytree(REGISTRY, terminal.folder / "damaged")
    version = Registry("damaged").champion("machines")
    (terminal.folder / "damaged" / "models" / "machines" / version / "scorer.tflite").write_bytes(b"x")
    outcome = terminal.run("run", "--registry", "damaged")
    assert outcome.code == 4
    assert (
        f"models/machines/{version}/scorer.tflite: was changed after it was written; SHA-256 differs"
        in outcome.only_line
    )


def test_a_bundle_for_another_schema_ends_with_4_and_the_feature(terminal: Terminal) -> None:
    (terminal.folder / "features.toml").write_text(FEATURES_TOML.replace('"mode"', '"tool"'))
    outcome = terminal.run("run")
    assert outcome.code == 4
    assert f"{MANIFEST}: was trained for another schema: feature 'tool' is not in the bundle" in outcome.only_line


def test_a_taken_http_port_ends_with_2_and_the_address(terminal: Terminal, taken_port: int) -> None:
    outcome = terminal.run("run", "--http-port", str(taken_port))
    assert outcome.code == 2
    assert outcome.only_line == (
        f"ganwatch: http_host/http_port 127.0.0.1:{taken_port}: cannot listen there: Address already in use; choose another "
        "http_port (0 takes a free one)"
    )


def test_an_error_reaches_the_shell_as_one_line_on_stderr_and_an_exit_code(machines_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitor.cli", "run", "--set", "max_rows=0"],
        cwd=machines_folder, env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "ganwatch: settings: max_rows: Input should be greater than or equal to 1, got '0' (from command line: max_rows)\n"
    )


def test_a_missing_extra_is_named_with_the_command_that_installs_it(machines_folder: Path) -> None:
    readings(60, seed=5).write_csv(machines_folder / "readings.csv")
    code = (
        "import sys; sys.modules['tensorflow'] = None; sys.argv = ['ganwatch', 'train', '--data', 'readings.csv']; "
        "from monitor.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=machines_folder, env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "ganwatch: `ganwatch train` needs the package tensorflow; install it with `pip install 'ganwatch[train]'`"
    )
    assert "Traceback" not in done.stderr


def test_score_prints_one_json_object(terminal: Terminal, readings_file: str) -> None:
    outcome = terminal.run("score", readings_file, "--json", "--top", "3", "--target-alert-rate", "0.02")
    assert outcome.code == 0
    summary = json.loads(outcome.out)
    assert (summary["file"], summary["rows"], len(summary["top"])) == (readings_file, 200, 3)
    assert 8 <= summary["flagged"] <= 20
    assert {entry["row"] for entry in summary["top"]} <= set(range(190, 200))


def test_score_prints_a_table_for_people(terminal: Terminal, readings_file: str) -> None:
    outcome = terminal.run("score", readings_file, "--top", "2")
    assert outcome.code == 0
    assert outcome.out.startswith("readings.csv: 200 rows, ")
    assert "why (value, expected)" in outcome.out


def test_score_writes_all_rows(terminal: Terminal, readings_file: str) -> None:
    assert terminal.run("score", readings_file, "--out", "scores.parquet").code == 0
    assert pl.read_parquet(terminal.folder / "scores.parquet").height == 200


def test_score_of_a_missing_or_unfit_file_ends_with_2(terminal: Terminal) -> None:
    outcome = terminal.run("score", "nothing.csv")
    assert (outcome.code, outcome.only_line) == (2, "ganwatch: nothing.csv: no such file; check the path")
    (terminal.folder / "other.csv").write_text("a,b\n1,2\n")
    outcome = terminal.run("score", "other.csv")
    assert outcome.code == 2
    assert outcome.only_line.startswith("ganwatch: other.csv: no column 'load'; ")


def test_init_writes_a_schema_that_can_be_read_and_never_overwrites(terminal: Terminal, readings_file: str) -> None:
    outcome = terminal.run("init", "--from", readings_file, "--out", "new.toml")
    assert outcome.code == 0
    assert "read its comments, then: ganwatch train --schema new.toml --data readings.csv" in outcome.out
    again = terminal.run("init", "--from", readings_file, "--out", "new.toml")
    assert again.code == 2
    assert again.only_line == "ganwatch: --out new.toml: exists already; give another name, or --force to overwrite it"
    assert terminal.run("init", "--from", readings_file, "--out", "new.toml", "--force").code == 0


def test_interrupting_ends_with_130(terminal: Terminal) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    terminal.monkeypatch.setattr("monitor.daemon.run_daemon", interrupt)
    assert terminal.run("run").code == 130


@pytest.mark.parametrize(
    ("assignments", "pairs"),
    [
        (None, {}),
        (["a=1", "b = x=y ", "c="], {"a": "1", "b": "x=y", "c": ""}),
    ],
)
def test_assignments_are_split_at_the_first_equals_sign(assignments: list[str] | None, pairs: dict[str, str]) -> None:
    assert parse_assignments(assignments) == pairs


def test_an_assignment_without_equals_sign_is_refused() -> None:
    with pytest.raises(ConfigError, match="--set: expects KEY=VALUE"):
        parse_assignments(["max_rows 7"])


def test_output_that_does_not_fit_on_the_disk_is_one_clear_line(machines_folder: Path, readings_file: str) -> None:
    command = [sys.executable, "-m", "monitor.cli", "score", readings_file]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, cwd=machines_folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "ganwatch: the output cannot be written: No space left on device\n")
