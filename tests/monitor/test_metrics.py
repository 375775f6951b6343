"""Metrics: the batch histogram counts as Prometheus' own, and README lists exactly what is exposed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from monitor.errors import InvalidRecord
from monitor.telemetry.metrics import LATENCY_BUCKETS, SCORE_BUCKETS, STAGES, BatchHistogram, Metrics

README = Path(__file__).parents[2] / "README.md"
SUFFIXES = ("_bucket", "_count", "_sum", "_created")


def samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    """Value by name and bound, as a scrape has them."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def exposed_names(metrics: Metrics) -> set[str]:
    """Names as a query uses them: counters with `_total`, infos with `_info`, histograms without a suffix."""
    names = set()
    for family in metrics.registry.collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        names.add(family.name + suffix)
    return names


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.lists(st.floats(-1e6, 1e6) | st.sampled_from(SCORE_BUCKETS), max_size=20), max_size=5),
    st.sampled_from([SCORE_BUCKETS, LATENCY_BUCKETS, (0.5,)]),
)
def test_a_batch_histogram_equals_the_one_that_is_fed_value_by_value(
    batches: list[list[float]], buckets: tuple[float, ...]
) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    batch_histogram = BatchHistogram("h", "help", buckets, ours)
    histogram = Histogram("h", "help", buckets=buckets, registry=theirs)
    for batch in batches:
        batch_histogram.observe_many(np.array(batch, dtype=np.float64))
        for value in batch:
            histogram.observe(value)
    found, expected = samples(ours), samples(theirs)
    assert found.pop(("h_sum", "")) == pytest.approx(expected.pop(("h_sum", "")), rel=1e-9, abs=1e-6)
    assert found == expected


def test_a_value_on_a_bound_belongs_to_its_bucket_and_float32_is_taken() -> None:
    registry = CollectorRegistry()
    BatchHistogram("h", "help", (1.0, 2.0), registry).observe_many(np.array([1, 1.5, 2, 3], dtype=np.float32))
    assert samples(registry) == {
        ("h_bucket", "1.0"): 1, ("h_bucket", "2.0"): 3, ("h_bucket", "+Inf"): 4, ("h_count", ""): 4, ("h_sum", ""): 7.5,
    }  # fmt: skip


def test_an_empty_batch_changes_nothing() -> None:
    registry = CollectorRegistry()
    BatchHistogram("h", "help", (1.0,), registry).observe_many(np.zeros(0))
    assert set(samples(registry).values()) == {0.0}


def test_readme_lists_exactly_the_exposed_metrics() -> None:
    listed = re.findall(r"^\| `(ganwatch_\w+)`", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(set(listed)) == len(listed)
    assert set(listed) == exposed_names(Metrics(CollectorRegistry()))


def test_every_metric_has_a_help_text_and_a_base_unit() -> None:
    for family in Metrics(CollectorRegistry()).registry.collect():
        assert family.documentation
        assert family.name.startswith("ganwatch_")
        assert not re.search(r"_(ms|millis|minutes|hours|kb|mb|percent)(_|$)", family.name)


def test_all_series_with_a_closed_set_of_labels_exist_from_the_start() -> None:
    scrape = generate_latest(Metrics(CollectorRegistry()).registry).decode()
    for reason in InvalidRecord.REASONS:
        assert f'ganwatch_records_dead_lettered_total{{reason="{reason}"}} 0.0' in scrape
    for stage in STAGES:
        assert f'ganwatch_stage_seconds_total{{stage="{stage}"}} 0.0' in scrape
    for reason in ("broker", "alerts", "dead_letters"):
        assert f'ganwatch_waiting{{reason="{reason}"}} 0.0' in scrape
    for outcome in ("done", "refused"):
        assert f'ganwatch_settings_reloads_total{{outcome="{outcome}"}} 0.0' in scrape


def test_the_lag_of_a_partition_that_was_given_away_is_no_longer_shown() -> None:
    metrics = Metrics(CollectorRegistry())
    for partition in ("0", "1"):
        metrics.lag_records.labels(partition).set(7)
        metrics.lag_seconds.labels(partition).set(7)
    metrics.forget_partition(1)
    metrics.forget_partition(1)
    metrics.forget_partition(5)
    scrape = generate_latest(metrics.registry).decode()
    assert 'ganwatch_lag_records{partition="0"} 7.0' in scrape
    assert 'partition="1"' not in scrape


def test_two_daemons_in_one_process_do_not_share_metrics() -> None:
    one, other = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    one.consumed.inc(5)
    assert "ganwatch_records_consumed_total 0.0" in generate_latest(other.registry).decode()
