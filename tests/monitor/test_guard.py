"""The guard: a bad champion is found on few records, a sound one never, whatever the records themselves do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.model.bundle import Bundle
from monitor.settings import Settings
from monitor.stream.broker import Cluster
from monitor.stream.judged import Beside, Judged
from monitor.stream.pipeline import Pipeline
from monitor.succession.guard import Guard
from tests.monitor.records import batch_of, segment

TARGET = 0.001


@pytest.fixture(scope="module")
def empty(machines_bundle: Bundle) -> Judged:
    """A judged micro-batch, to be given other p-values."""
    settings = Settings.model_validate({"target_alert_rate": TARGET})
    pipeline = Pipeline(machines_bundle, settings, Cluster("c", "t"), now=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    return pipeline.judge(batch_of(segment([b"{"])))


def watched(empty: Judged, new: np.ndarray, old: np.ndarray, records: int = 2000, cut: int = 128) -> Guard:
    """A guard that saw these p-values of a new and an old model, batch by batch, until it was sure."""
    guard = Guard(empty.by.bundle.version, TARGET, records)
    for start in range(0, len(new), cut):
        p, before = new[start : start + cut], old[start : start + cut]
        judged = replace(
            empty,
            scores=np.zeros(len(p)),
            p_values=p,
            n_flagged=int((p <= TARGET).sum()),
            beside=Beside("old", before, int((before <= TARGET).sum())),
        )
        guard.observe(judged)
        if guard.verdict != "watching":
            break
    return guard


def uniform(n: int, seed: int, anomalies: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < anomalies, 1e-6, rng.random(n))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), anomalies=st.sampled_from([0.0, 0.001, 0.01, 0.2]))
def test_a_sound_model_is_never_sent_away_however_many_anomalies_there_are(
    empty: Judged, seed: int, anomalies: float
) -> None:
    p = uniform(2100, seed, anomalies)
    other = np.where(p == 1e-6, p, uniform(2100, seed + 1))
    assert watched(empty, p, other).verdict == "sound"


@pytest.mark.parametrize("share", [0.03, 0.1, 0.9])
def test_a_model_that_flags_far_too_much_is_found_within_a_thousand_records(empty: Judged, share: float) -> None:
    guard = watched(empty, uniform(2000, 1, share), uniform(2000, 2))
    assert guard.verdict == "bad"
    assert guard.seen <= 1000
    assert "flagged" in guard.reason


@pytest.mark.parametrize("power", [0.02, 50.0])
def test_a_model_whose_p_values_are_all_high_or_all_low_is_out_of_tune(empty: Judged, power: float) -> None:
    p = np.maximum(2 * TARGET, uniform(2000, 3) ** power)  # none is flagged
    guard = watched(empty, p, uniform(2000, 4))
    assert guard.verdict == "bad"
    assert "out of tune" in guard.reason


def test_a_model_that_mends_what_its_drifted_predecessor_did_not_is_sound(empty: Judged) -> None:
    assert watched(empty, uniform(2100, 5), uniform(2100, 6) ** 20).verdict == "sound"


def test_records_of_another_model_or_without_comparison_do_not_count(empty: Judged) -> None:
    guard = Guard("another", TARGET, 1)
    guard.observe(replace(empty, scores=np.zeros(10), beside=Beside("old", np.zeros(10), 10)))
    assert (guard.verdict, guard.seen) == ("watching", 0)
    guard = Guard(empty.by.bundle.version, TARGET, 1)
    guard.observe(replace(empty, scores=np.zeros(10)))
    assert (guard.verdict, guard.seen) == ("watching", 0)
