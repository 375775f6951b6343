"""Reads `deploy/docker-compose.yml` and starts its services as processes of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE_FILE = DEPLOY / "docker-compose.yml"
GANWATCH_BIN = Path(sys.executable).parent / "ganwatch"


def load_compose() -> dict[str, Any]:
    """The whole document, anchors and merges resolved."""
    document: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    return document


@dataclass(frozen=True)
class Mount:
    """One entry of `volumes`: `source` is a named volume, or a path when it begins with a dot."""

    source: str
    target: str
    read_only: bool


def mounts(service: Mapping[str, Any]) -> list[Mount]:
    """The volumes of a service."""
    parts = [entry.split(":") for entry in service.get("volumes", [])]
    return [Mount(part[0], part[1], part[2:] == ["ro"]) for part in parts]


def runs_ganwatch(service: Mapping[str, Any]) -> bool:
    """Whether the service is built from one of our Dockerfiles, whose entry point is `ganwatch`."""
    return "build" in service


@dataclass
class LocalStack:
    """The services as local processes.

    Attributes:
        folder: named volumes become folders in it; logs go there too.
        rewrite: what stands in the compose file (a host, a port, an address) -> what stands for it here.
        bind: path in a bind mount, as the compose file writes it -> path to use here; the file's own by default.
    """

    folder: Path
    rewrite: dict[str, str]
    bind: dict[str, Path] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, program: str | None = None) -> subprocess.Popen[bytes]:
        """Starts the command of a service; `program` is what the image would run, `ganwatch` by default."""
        service = load_compose()["services"][name]
        command = [program or str(GANWATCH_BIN), *(self._here(argument, service) for argument in service["command"])]
        settings = {key: self._here(value, service) for key, value in service.get("environment", {}).items()}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("GANWATCH_")}
        with self.log_file(name).open("ab") as log:
            process = subprocess.Popen(command, env=inherited | settings, stdout=log, stderr=log, cwd=self.folder)
        self.processes[name] = process
        return process

    def log_file(self, name: str) -> Path:
        """Where the output of a service goes."""
        return self.folder / f"{name}.log"

    def log(self, name: str) -> str:
        """The end of a service's output."""
        return self.log_file(name).read_text(encoding="utf-8", errors="replace")[-4000:]

    def stop(self) -> None:
        """Ends what still runs, the last one started first."""
        for process in reversed(self.processes.values()):
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _here(self, text: str, service: Mapping[str, Any]) -> str:
        """A text of the compose file with its paths, hosts and ports replaced by those of this machine."""
        places = {mount.target: str(self._place(mount)) for mount in mounts(service)} | self.rewrite
        longest_first = sorted(places, key=len, reverse=True)
        # Whole paths, hosts and numbers only, and what was put in is not looked at again.
        words = re.compile(rf"(?<![\w./-])({'|'.join(map(re.escape, longest_first))})(?![\w-])")
        return words.sub(lambda found: places[found[1]], text)

    def _place(self, mount: Mount) -> Path:
        if mount.source.startswith("."):
            return self.bind.get(mount.source, (COMPOSE_FILE.parent / mount.source).resolve())
        place = self.folder / mount.source
        place.mkdir(exist_ok=True)
        return place
