"""The source alone: what it knows of where it stands."""

from __future__ import annotations

import time

import pytest
from prometheus_client import CollectorRegistry

from monitor.settings import Settings
from monitor.stream.batches import Segment
from monitor.stream.source import Source
from monitor.telemetry.metrics import Metrics
from tests.broker.conftest import Stream
from tests.topics import publish

pytestmark = pytest.mark.broker


def next_records(source: Source, most: int) -> list[Segment]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if polled := source.poll(0.2, most):
            return polled
    raise AssertionError("no records within 30 s")


def test_a_source_is_caught_up_once_it_has_polled_the_newest_record(stream: Stream) -> None:
    publish(stream.kafka.bootstrap, stream.features, [b"{}"] * 50)
    source = Source(Settings.model_validate(stream.settings()), Metrics(CollectorRegistry()))
    try:
        first = next_records(source, 20)
        assert not source.is_caught_up(first)
        rest = next_records(source, 1000)
        assert source.is_caught_up(rest)
        elsewhere = Segment("another-topic", 0, 0, rest[0].batches)
        assert not source.is_caught_up([*rest, elsewhere])
    finally:
        source.close(2.0)
