"""The archive of a daemon: a store that hangs or fails costs the archive, and nothing else."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import s3fs
from prometheus_client import CollectorRegistry

from monitor.archive.layout import folder_of, list_strata
from monitor.archive.recorder import MOST_WAITING, Recorder
from monitor.archive.writer import ArchiveOptions
from monitor.model.bundle import Bundle
from monitor.model.store import open_store
from monitor.settings import Settings
from monitor.stream.batches import Segment
from monitor.stream.broker import Cluster
from monitor.stream.pipeline import Pipeline
from monitor.telemetry.metrics import Metrics
from tests import machines
from tests.machines import as_json, readings
from tests.monitor.records import TIMESTAMP_MS, batch_of, record, record_batch, segment
from tests.s3_server import s3_environment

ROWS = 50


@dataclass
class Scene:
    """A recorder, and batches that close one stratum each."""

    recorder: Recorder
    pipeline: Pipeline
    metrics: Metrics
    batches: int = 0

    def judge(self, batches: int) -> None:
        """So many more."""
        for _ in range(batches):
            values = as_json(readings(ROWS, seed=self.batches))
            self.recorder.observe(self.pipeline.judge(batch_of(segment(values, first=self.batches * ROWS))))
            self.batches += 1

    def rows(self, outcome: str) -> float:
        """The metric."""
        value = self.metrics.registry.get_sample_value("ganwatch_archived_rows_total", {"outcome": outcome})
        return value or 0.0


def scene_at(url: str, bundle: Bundle) -> Scene:
    metrics = Metrics(CollectorRegistry())
    options = ArchiveOptions(stratum_rows=ROWS, stratum_records=ROWS)
    recorder = Recorder(open_store(url, "archive"), "machines", machines.SCHEMA, options, metrics)
    settings = Settings.model_validate({"target_alert_rate": 0.01})
    return Scene(recorder, Pipeline(bundle, settings, Cluster("c", "t"), sampler=recorder.writer), metrics)


@pytest.fixture
def silent_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An object store that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        for name, value in s3_environment(f"http://127.0.0.1:{server.getsockname()[1]}").items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # they remember where their server was
        yield
        s3fs.S3FileSystem.clear_instance_cache()


def test_all_that_was_closed_is_stored_before_the_end(tmp_path: Path, machines_bundle: Bundle) -> None:
    scene = scene_at(str(tmp_path), machines_bundle)
    scene.judge(3)
    scene.recorder.close()
    assert scene.rows("stored") >= 3 * ROWS  # flagged ones beside
    assert len(list(tmp_path.rglob("*.parquet"))) >= 3


def test_a_record_from_the_future_is_kept_as_one_of_now(tmp_path: Path, machines_bundle: Bundle) -> None:
    scene = scene_at(str(tmp_path), machines_bundle)
    micros = 1000 * TIMESTAMP_MS  # as a producer sends that mistakes the unit
    records = [record(value, offset, timestamp=micros) for offset, value in enumerate(as_json(readings(ROWS, seed=0)))]
    scene.recorder.observe(scene.pipeline.judge(batch_of(Segment("features", 0, 1, [record_batch(records)]))))
    scene.recorder.close()
    (stratum,) = list_strata(open_store(str(tmp_path)), folder_of("machines", machines.SCHEMA, "sample"))
    assert TIMESTAMP_MS < stratum.first <= stratum.last <= 1000 * time.time()


@pytest.mark.usefixtures("silent_server")
def test_a_store_that_hangs_holds_up_neither_the_batches_nor_the_end(
    machines_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    scene = scene_at("s3://bucket/archive", machines_bundle)
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        scene.judge(MOST_WAITING + 3)
        scene.recorder.close(timeout_s=0.5)
    assert time.monotonic() - started < 5
    assert scene.rows("failed") >= 2 * ROWS  # one is being stored, MOST_WAITING wait
    assert "does not answer" in str(caplog.records[-1].__dict__["error"])
