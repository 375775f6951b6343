"""Runs `ganwatch` inside the test's process, in a folder, as a person at a terminal without colours would."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from monitor import cli


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object that was printed."""
        (line,) = self.out.splitlines()
        content: dict[str, Any] = json.loads(line)
        return content

    @property
    def json_lines(self) -> list[dict[str, Any]]:
        """All objects, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Terminal:
    """A folder in which commands run.

    Attributes:
        flags: appended to every command.
    """

    folder: Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    flags: tuple[str, ...] = ()

    def run(self, *arguments: str) -> Outcome:
        """One command."""
        self.monkeypatch.setattr(sys, "argv", ["ganwatch", *arguments, *self.flags])
        with pytest.raises(SystemExit) as end:
            cli.main()
        shown = self.capsys.readouterr()
        return Outcome(int(end.value.code or 0), shown.out, shown.err)

    def run_apart(self, *arguments: str) -> Outcome:
        """One command in a process of its own, for what leaves something behind: the client library drops sockets unclosed."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("GANWATCH_")}
        done = subprocess.run(
            [sys.executable, "-m", "monitor.cli", *arguments, *self.flags],
            cwd=self.folder,
            env=environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)


@contextmanager
def terminal_in(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    """A terminal without settings from the environment; logging is afterwards as it was."""
    for name in [name for name in os.environ if name.startswith("GANWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(folder)
    kafka = logging.getLogger("kafka")
    before = kafka.level
    yield Terminal(folder, capsys, monkeypatch)
    kafka.setLevel(before)


def flags_of(settings: dict[str, object]) -> tuple[str, ...]:
    """Settings as `--set KEY=VALUE`."""
    return tuple(part for key, value in settings.items() for part in ("--set", f"{key}={value}"))
