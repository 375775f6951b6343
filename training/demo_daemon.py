"""The real daemon, as a process of its own, for as long as a demo lasts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from monitor.errors import GanwatchError
from monitor.settings import ENV_PREFIX

_REQUEST_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 15.0
_LAST_LINES = 5


class DaemonFailed(GanwatchError):  # noqa: N818 - the name says what happened
    """The daemon ended or did not become ready."""

    def __init__(self, problem: str, log: Path) -> None:
        self.log = log
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:] if log.exists() else []
        super().__init__("\n".join([f"the daemon {problem}; its log is {log}", *lines]))


class Daemon:
    """`ganwatch run` in a folder that holds its ganwatch.toml; it writes daemon.log there. Runs within `with`."""

    def __init__(self, folder: Path) -> None:
        """Takes the folder."""
        self._folder = folder
        self._log = folder / "daemon.log"
        self._address: str | None = None

    def __enter__(self) -> Self:
        """Starts the process; a session of its own, so that Ctrl-C reaches it through us and in order."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
        command = [sys.executable, "-m", "monitor.cli", "run", "--config", "ganwatch.toml"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_until_ready(self, timeout_s: float) -> float:
        """Waits for /readyz to answer 200; returns the seconds that took.

        Raises:
            DaemonFailed: it ended, or is not ready in time.
        """
        start = time.monotonic()
        while time.monotonic() < start + timeout_s:
            if self._process.poll() is not None:
                raise DaemonFailed(f"ended with exit code {self._process.returncode}", self._log)
            self._address = self._address or self._find_address()
            if self._address is not None and self._is_ready(self._address):
                return time.monotonic() - start
            time.sleep(0.1)
        raise DaemonFailed(f"was not ready within {timeout_s:g} s", self._log)

    def scrape(self) -> str:
        """The text of /metrics.

        Raises:
            DaemonFailed: nobody answers.
        """
        try:
            with urllib.request.urlopen(f"http://{self._address}/metrics", timeout=_REQUEST_TIMEOUT_S) as answer:
                return str(answer.read().decode())
        except OSError as error:
            raise DaemonFailed(f"does not answer on http://{self._address}/metrics ({error})", self._log) from error

    def stop(self) -> int:
        """Ends it with SIGTERM, or with SIGKILL when it does not react; returns its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(timeout=_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _find_address(self) -> str | None:
        """host:port of the metrics, which the daemon logs once it listens."""
        for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines():
            if '"http_listening"' in line and line.endswith("}"):
                return str(json.loads(line)["address"])
        return None

    @staticmethod
    def _is_ready(address: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}/readyz", timeout=_REQUEST_TIMEOUT_S) as answer:
                return bool(answer.status == 200)
        except (urllib.error.HTTPError, OSError):
            return False
