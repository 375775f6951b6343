"""Another model takes over in a running daemon: each alert names the model that gave its score, and no record is lost."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.model.bundle import Bundle
from monitor.model.calibration import tie_breakers
from monitor.model.detection import detect
from monitor.model.registry import Registry
from tests import machines
from tests.broker.conftest import Stream
from tests.challengers import calibrated, touchy
from tests.daemon import Daemon
from tests.machines import as_json, readings
from tests.topics import publish, read_alerts, read_all
from training.history import History

pytestmark = pytest.mark.broker


@pytest.fixture
def registry(stream: Stream) -> Registry:
    """The committed registry, writable, as the stream's daemons see it."""
    (stream.folder / "registry").unlink()
    shutil.copytree(machines.REGISTRY, stream.folder / "registry")
    return Registry(str(stream.folder / "registry"))


def history(seed: int) -> History:
    return History(frame=readings(3000, seed=seed), source="tests", times=None)


def by_hand(registry: Registry, version: str) -> None:
    registry.promote("machines", version, author="human", reason="for the test")


def swaps(daemon: Daemon, outcome: str) -> float:
    return daemon.metrics().get(f'ganwatch_model_swaps_total{{outcome="{outcome}"}}', 0.0)


def assert_each_alert_is_its_models(registry: Registry, topic: str, records: list[bytes], alerts: list[Any]) -> None:
    """Scores are those of the version that the alert names, and every record that this version would flag is there."""
    scores = {}
    for version in {alert["model"]["version"] for alert in alerts}:
        bundle: Bundle = registry.load("machines", version)
        frame = bundle.decoder().decode(records).frame
        tie = tie_breakers(bundle.sha256, topic, 0, np.arange(len(frame)))
        scores[version] = detect(bundle, frame, tie).score
    for alert in alerts:
        expected = scores[alert["model"]["version"]][alert["record"]["offset"]]
        assert alert["score"] == pytest.approx(expected, abs=0.01)


@contextmanager
def steady(stream: Stream, records: list[bytes], a_second: int) -> Iterator[threading.Thread]:
    """Sends the records at a steady rate, in the background."""

    def send() -> None:
        for start in range(0, len(records), a_second // 20):
            publish(stream.kafka.bootstrap, stream.features, records[start : start + a_second // 20])
            time.sleep(0.03)

    thread = threading.Thread(target=send)
    thread.start()
    yield thread
    thread.join()


def test_a_promoted_model_takes_over_and_each_alert_names_the_model_that_gave_its_score(
    stream: Stream, registry: Registry, tmp_path: Path
) -> None:
    first = registry.champion("machines")
    second = registry.publish(calibrated(history(1), tmp_path / "second"))
    records = as_json(readings(6000, seed=90))
    events = stream.kafka.new_topic("model-events")
    settings = {"registry_poll_s": 0.1, "target_alert_rate": 0.05, "max_rows": 200, "model_events_topic": events}
    with stream.daemon(**settings) as daemon:
        with steady(stream, records, a_second=2000):
            daemon.wait_until(lambda: daemon.metrics().get("ganwatch_records_scored_total", 0) > 500, "under way")
            by_hand(registry, second)
            daemon.wait_until(lambda: swaps(daemon, "done") == 1, "swapped")
        daemon.wait_until_done(6000)
        assert daemon.metrics()["ganwatch_beside_records_total"] >= 2000  # the guard compared them
        assert swaps(daemon, "rolled_back") == 0
    alerts = read_alerts(stream.kafka.bootstrap, stream.alerts)
    versions = [alert["model"]["version"] for alert in alerts]
    assert versions == sorted(versions, key=[first, second].index)  # one after the other
    assert set(versions) == {first, second}
    assert_each_alert_is_its_models(registry, stream.features, records, alerts)
    (event,) = read_all(stream.kafka.bootstrap, events)
    assert json.loads(event.value)["kind"] == "swapped"


def test_a_bad_model_promoted_by_hand_is_sent_away_within_two_thousand_records(
    stream: Stream, registry: Registry, tmp_path: Path
) -> None:
    first = registry.champion("machines")
    bad = registry.publish(touchy(history(2), tmp_path / "bad"))
    records = as_json(readings(8000, seed=91))
    with stream.daemon(registry_poll_s=0.1) as daemon:
        with steady(stream, records, a_second=2000):
            daemon.wait_until(lambda: daemon.metrics().get("ganwatch_records_scored_total", 0) > 500, "under way")
            by_hand(registry, bad)
            daemon.wait_until(lambda: swaps(daemon, "rolled_back") == 1, "rid of it")
        daemon.wait_until_done(8000)
        assert f'version="{first}"' in daemon.get("/metrics")[1]
    last = registry.last_promotion("machines")
    assert last is not None
    assert (last.champion, last.author) == (first, "guard")
    alerts = read_alerts(stream.kafka.bootstrap, stream.alerts)
    offsets = [alert["record"]["offset"] for alert in alerts if alert["model"]["version"] == bad]
    assert offsets
    assert max(offsets) - min(offsets) < 2000
    assert_each_alert_is_its_models(registry, stream.features, records, alerts)


def test_a_bad_model_promoted_before_the_start_is_sent_away_too(
    stream: Stream, registry: Registry, tmp_path: Path
) -> None:
    first = registry.champion("machines")
    bad = registry.publish(touchy(history(2), tmp_path / "bad"))
    by_hand(registry, bad)
    publish(stream.kafka.bootstrap, stream.features, as_json(readings(8000, seed=92)))
    with stream.daemon(max_rows=500) as daemon:
        daemon.wait_until_done(8000)
        assert swaps(daemon, "rolled_back") == 1
        assert f'version="{first}"' in daemon.get("/metrics")[1]
    assert registry.champion("machines") == first
    alerts = read_alerts(stream.kafka.bootstrap, stream.alerts)
    assert max(alert["record"]["offset"] for alert in alerts if alert["model"]["version"] == bad) < 2000
