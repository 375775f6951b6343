"""The daemon is killed while it lags, a few times here; `make e2e-kill` does it longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.e2e_kill import run
from tests.conftest import Kafka

pytestmark = pytest.mark.broker


def test_nothing_is_lost_when_the_daemon_is_killed_while_it_lags(kafka: Kafka, machines_folder: Path) -> None:
    figures = run(machines_folder, kafka, kills=4, records=30_000)
    assert figures["kills"] == 4
    assert figures["lost"] == figures["wrong"] == figures["duplicates_after_deduplication"] == 0
