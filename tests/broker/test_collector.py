"""Python's cyclic collector walks through what a daemon made since its start, not through all that it loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.broker.conftest import Stream
from tests.machines import as_json, readings
from tests.topics import publish

pytestmark = pytest.mark.broker

# Loaded by Python itself before the daemon; at its end it writes down how many objects the collector passes over and watches.
COUNTING = """
import atexit, gc, pathlib
def count():
    pathlib.Path("objects").write_text(f"{gc.get_freeze_count()} {len(gc.get_objects())}")
atexit.register(count)
"""


def test_most_objects_of_a_daemon_are_passed_over_by_the_collector(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(stream.kafka.bootstrap, stream.features, as_json(readings(1000, seed=72)))
    (stream.folder / "sitecustomize.py").write_text(COUNTING)
    monkeypatch.setenv("PYTHONPATH", f"{stream.folder}:{Path(__file__).parents[2]}")
    with stream.daemon() as daemon:
        daemon.wait_until_done(1000)
        assert daemon.stop()[0] == 0
    passed_over, watched = map(int, (stream.folder / "objects").read_text().split())
    assert passed_over > 4 * watched
