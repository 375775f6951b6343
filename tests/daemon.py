"""The real `ganwatch run` as a subprocess, for tests and benchmarks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from tests.kafka_broker import free_port

READY_TIMEOUT_S = 30.0
_SAMPLE = re.compile(r"^(?P<series>[a-zA-Z_:]+(\{[^}]*\})?) (?P<value>\S+)$")


class Daemon:
    """One daemon; a context manager that ends it with SIGTERM if it still runs.

    Attributes:
        settings: of `monitor.settings`, given as `--set`.
        environ: variables beside those of this process.
        log: file with everything it wrote.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object], environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.environ = dict(environ or {})
        self.port = int(str(settings.get("http_port", 0))) or free_port()
        self.settings = {**settings, "http_port": self.port}
        self.log = folder / f"daemon-{self.port}-{time.monotonic_ns()}.log"
        self.started_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Daemon:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()

    def start(self) -> Daemon:
        """Starts it; does not wait."""
        flags = [part for key, value in self.settings.items() for part in ("--set", f"{key}={value}")]
        own = ("GANWATCH_", "POLARS_MAX_THREADS")  # the daemon chooses its native threads by itself
        environ = {key: value for key, value in os.environ.items() if not key.startswith(own)}
        with self.log.open("ab") as log:
            self.started_at = time.monotonic()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "monitor.cli", "run", *flags],
                cwd=self.folder,
                env=environ | self.environ,
                stdout=log,
                stderr=log,
            )
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one of its HTTP paths; status 0 when nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return 0, ""

    def metrics(self) -> dict[str, float]:
        """One scrape: value by series as Prometheus writes it, e.g. `ganwatch_waiting{reason="broker"}`."""
        lines = self.get("/metrics")[1].splitlines()
        found = (_SAMPLE.match(line) for line in lines if not line.startswith("#"))
        return {match["series"]: float(match["value"]) for match in found if match}

    def wait_until_ready(self) -> float:
        """Returns the seconds from start to the first 200 of `/readyz`."""
        self.wait_until(lambda: self.get("/readyz")[0] == 200, "ready", READY_TIMEOUT_S, pause_s=0.02)
        return time.monotonic() - self.started_at

    def wait_until(self, holds: Callable[[], bool], what: str, timeout_s: float = 60.0, pause_s: float = 0.1) -> None:
        """Waits for something; fails with the daemon's log when it ends or the time is over."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(
                    f"the daemon ended with {self._process.returncode} before it was {what}: {self.output()}"
                )
            if time.monotonic() > deadline:
                raise AssertionError(f"the daemon was not {what} after {timeout_s} s: {self.output()}")
            time.sleep(pause_s)

    def wait_until_done(self, records: int, timeout_s: float = 60.0) -> None:
        """Waits until so many records ended as scored or dead-lettered in this process."""
        self.wait_until(lambda: done_records(self.metrics()) >= records, f"done with {records} records", timeout_s)

    def output(self) -> str:
        """Everything it wrote."""
        return self.log.read_text(errors="replace")

    def resident_mb(self, *, peak: bool = False) -> float:
        """Resident memory in MB (10^6 bytes), now or at its highest."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(rf"^{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", status, re.MULTILINE)
        assert match is not None
        return int(match[1]) * 1024 / 1e6

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Waits for its end; returns the exit code."""
        assert self._process is not None
        return self._process.wait(timeout=timeout_s)

    def stop(self) -> tuple[int, float]:
        """SIGTERM; returns exit code and seconds until the end."""
        started = time.monotonic()
        self.signal(signal.SIGTERM)
        return self.wait(), time.monotonic() - started

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)
        self.wait()


def done_records(metrics: Mapping[str, float]) -> float:
    """Records scored or dead-lettered, from a scrape."""
    dead = sum(value for series, value in metrics.items() if series.startswith("ganwatch_records_dead_lettered_total"))
    return metrics.get("ganwatch_records_scored_total", 0.0) + dead
