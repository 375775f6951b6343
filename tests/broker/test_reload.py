"""SIGHUP: decisions change without a restart, connections do not, and a broken file changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.broker.conftest import Stream
from tests.daemon import Daemon
from tests.machines import as_json, readings
from tests.topics import publish, read_alerts

pytestmark = pytest.mark.broker

DONE, REFUSED = (f'ganwatch_settings_reloads_total{{outcome="{outcome}"}}' for outcome in ("done", "refused"))


class DaemonWithFile(Daemon):
    """`ganwatch run --config FILE`; what is in the file is not given as a flag, which would win over it."""

    def __init__(self, folder: Path, settings: dict[str, object], file: Path) -> None:
        super().__init__(folder, settings)
        self._file = file

    def start(self) -> Daemon:
        flags = [part for key, value in self.settings.items() for part in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "monitor.cli", "run", "--config", str(self._file), *flags]
        environ = {key: value for key, value in os.environ.items() if not key.startswith("GANWATCH_")}
        with self.log.open("ab") as log:
            self.started_at = time.monotonic()
            self._process = subprocess.Popen(command, cwd=self.folder, env=environ, stdout=log, stderr=log)
        return self


class Configured:
    """A daemon whose decision settings stand in a file that the test rewrites."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.file = stream.folder / "ganwatch.toml"
        self._published = 0

    def daemon(self, content: str) -> Daemon:
        self.file.write_text(content)
        flags = {name: value for name, value in self.stream.settings().items() if name != "target_alert_rate"}
        return DaemonWithFile(self.stream.folder, flags, self.file)

    def reload(self, daemon: Daemon, content: str, outcome: str) -> None:
        before = daemon.metrics()[outcome]
        self.file.write_text(content)
        daemon.signal(signal.SIGHUP)
        daemon.wait_until(lambda: daemon.metrics()[outcome] == before + 1, "done with SIGHUP", timeout_s=10)

    def alerts_of(self, daemon: Daemon, records: list[bytes]) -> list[dict[str, Any]]:
        """Publishes records and returns the alerts that they raise."""
        bootstrap = self.stream.kafka.bootstrap
        first, self._published = self._published, self._published + len(records)
        publish(bootstrap, self.stream.features, records)
        daemon.wait_until_done(self._published)
        alerts = read_alerts(bootstrap, self.stream.alerts)
        return [alert for alert in alerts if alert["record"]["offset"] >= first]


@pytest.fixture
def configured(stream: Stream) -> Configured:
    return Configured(stream)


def event(daemon: Daemon, name: str) -> dict[str, Any]:
    """The last log event of a name."""
    events = [json.loads(line) for line in daemon.output().splitlines() if line.startswith("{")]
    found: dict[str, Any] = [entry for entry in events if entry["event"] == name][-1]
    return found


def test_a_new_threshold_decides_from_the_next_record_on(configured: Configured) -> None:
    records = as_json(readings(200, seed=50, anomalies=20))
    with configured.daemon("threshold = 0.0\n") as daemon:
        daemon.wait_until_ready()
        assert len(configured.alerts_of(daemon, records)) == 200
        configured.reload(daemon, "threshold = 100.0\nattribution_top_k = 1\n", DONE)
        assert daemon.metrics()["ganwatch_threshold"] == 100
        assert configured.alerts_of(daemon, records) == []
        configured.reload(daemon, "target_alert_rate = 0.01\nattribution_top_k = 1\nalert_payload = false\n", DONE)
        alerts = configured.alerts_of(daemon, records)
        metrics = daemon.metrics()
    assert metrics["ganwatch_threshold"] == pytest.approx(100 / 3)  # p = 0.01 on the scale where 1e-6 is 100
    assert metrics["ganwatch_target_alert_rate_ratio"] == 0.01
    assert 15 <= len(alerts) < 40
    assert {len(alert["attribution"]) for alert in alerts} == {1}
    assert not any("payload" in alert for alert in alerts)
    assert metrics["ganwatch_rebalances_total"] == 1


def test_a_new_threshold_method_decides_from_the_next_record_on(configured: Configured) -> None:
    records = as_json(readings(300, seed=53, anomalies=30))
    with configured.daemon("target_alert_rate = 0.02\n") as daemon:
        daemon.wait_until_ready()
        by_p_value = daemon.metrics()["ganwatch_threshold"]
        configured.reload(daemon, 'target_alert_rate = 0.02\nthreshold_method = "quantile"\n', DONE)
        by_quantile = daemon.metrics()["ganwatch_threshold"]
        alerts = configured.alerts_of(daemon, records)
        configured.reload(daemon, "false_discovery_rate = 0.1\n", DONE)
        together = configured.alerts_of(daemon, records)
        configured.reload(daemon, 'threshold_method = "fixed"\n', REFUSED)
    # The last of the records at the quantile has a p-value of one rank more.
    assert by_p_value - 1 < by_quantile < by_p_value
    assert 20 <= len(alerts) <= 60
    assert {alert["threshold"] for alert in alerts} == {round(by_quantile, 2)}
    assert len(together) >= 20
    assert all(alert["score"] >= alert["threshold"] > 100 / 6 for alert in together)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("threshold = ", "is not TOML"), ("treshold = 5\n", "unknown key 'treshold'"), ("threshold = 500\n", "threshold")],
)
def test_a_broken_file_keeps_the_old_settings_and_says_so(configured: Configured, content: str, complaint: str) -> None:
    records = as_json(readings(50, seed=51))
    with configured.daemon("threshold = 0.0\n") as daemon:
        daemon.wait_until_ready()
        configured.reload(daemon, content, REFUSED)
        assert daemon.metrics()["ganwatch_threshold"] == 0
        assert daemon.metrics()[DONE] == 0
        assert len(configured.alerts_of(daemon, records)) == 50
        refused = event(daemon, "settings_refused")
    assert refused["level"] == "error"
    assert complaint in refused["error"]
    assert str(configured.file) in refused["error"]


def test_a_file_that_is_gone_keeps_the_old_settings(configured: Configured) -> None:
    with configured.daemon("threshold = 7.5\n") as daemon:
        daemon.wait_until_ready()
        configured.file.unlink()
        daemon.signal(signal.SIGHUP)
        daemon.wait_until(lambda: daemon.metrics()[REFUSED] == 1, "done with SIGHUP", timeout_s=10)
        assert daemon.metrics()["ganwatch_threshold"] == 7.5
        assert daemon.get("/readyz")[0] == 200


def test_settings_that_need_a_restart_are_named_and_not_taken_over(configured: Configured) -> None:
    with configured.daemon("threshold = 10.0\n") as daemon:
        daemon.wait_until_ready()
        configured.reload(daemon, 'threshold = 20.0\nmax_rows = 7\nlog_level = "warning"\n', DONE)
        reloaded = event(daemon, "settings_reloaded")
        assert daemon.metrics()["ganwatch_threshold"] == 20
        records = as_json(readings(100, seed=52))
        configured.alerts_of(daemon, records)
        assert daemon.metrics()["ganwatch_batch_rows_sum"] == 100
        assert daemon.metrics()['ganwatch_batch_rows_bucket{le="16.0"}'] < daemon.metrics()["ganwatch_batch_rows_count"]
    assert reloaded["needs_restart"] == ["max_rows"]
    assert reloaded["changed"] == {"threshold": 20.0, "log_level": "warning"}
    assert reloaded["level"] == "warning"
