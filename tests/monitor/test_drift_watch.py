"""The drift watch: both detectors on a real model's scores, what it tells and what the metrics show; Elec2's own drift."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from monitor.drift.watch import Drift, DriftWatch
from monitor.model.bundle import Bundle
from monitor.model.calibration import tie_breakers
from monitor.model.detection import detect
from monitor.model.registry import Registry
from monitor.model.schema import Schema
from tests import machines
from tests.challengers import as_bundle
from training.history import History
from training.preprocessing import fit_preprocessor
from training.train import TrainingPlan, train_model

TARGET = 0.01
BATCH = 2_000
# In the row after this one Victoria's prices begin to vary; they are constant before.
ELEC2_CHANGE = 17_424
# Half of the other rows are sampled: with three windows of them wherever a bundle's hash puts that half.
ELEC2_TRAINED = 14_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The committed network, calibrated on rows of its own kind, and with the training rows' distribution."""
    frame = machines.readings(8_000, seed=1)
    bundle = as_bundle(frame, tmp_path_factory.mktemp("bundles") / "one")
    object.__setattr__(
        bundle,
        "preprocessor",
        msgspec.structs.replace(bundle.preprocessor, reference=fit_preprocessor(frame, machines.SCHEMA).reference),
    )
    return bundle


def observe(watch: DriftWatch, bundle: Bundle, frame: pl.DataFrame, *, first: int = 0) -> list[Drift]:
    """Scores rows as the daemon does, micro-batch after micro-batch."""
    numbers = tie_breakers(bundle.sha256, "features", 0, np.arange(first, first + frame.height))
    drifts = []
    for start in range(0, frame.height, BATCH):
        rows = slice(start, start + BATCH)
        found = detect(bundle, frame[rows], numbers[rows])
        drifts += watch.observe(found.p_value, watch.sample(found.X, found.missing, numbers[rows]))
    return drifts


def test_readings_as_in_training_raise_nothing(bundle: Bundle) -> None:
    watch = DriftWatch(bundle.preprocessor, TARGET)
    assert observe(watch, bundle, machines.readings(60_000, seed=2)) == []
    assert watch.score_drift < 1.0
    assert max(watch.input_drift.values()) < 0.1
    assert 0.4 < watch.flag_rate_ratio < 2.5


def test_a_sensor_that_breaks_is_abrupt_drift_at_once_and_gradual_drift_of_that_feature_later(bundle: Bundle) -> None:
    watch = DriftWatch(bundle.preprocessor, TARGET)
    assert observe(watch, bundle, machines.readings(20_000, seed=3)) == []
    hot = machines.readings(60_000, seed=4).with_columns(pl.col("motor.temperature_c") + 15.0)
    abrupt, gradual = observe(watch, bundle, hot, first=20_000)
    assert (abrupt.kind, abrupt.features) == ("abrupt", ())
    assert 20_000 < abrupt.at <= 20_500
    assert abrupt.since is not None
    assert abs(abrupt.since - 20_000) <= 100
    assert (gradual.kind, gradual.statistic, gradual.features) == ("gradual", "psi", ("motor.temperature_c",))
    assert watch.score_drift >= 1.0
    assert watch.flag_rate_ratio > 5.0
    assert watch.input_drift["motor.temperature_c"] > 0.1 > watch.input_drift["pieces"]


def test_before_the_first_record_there_is_nothing_to_show(bundle: Bundle) -> None:
    watch = DriftWatch(bundle.preprocessor, TARGET)
    assert (watch.score_drift, watch.flag_rate_ratio, dict(watch.input_drift)) == (0.0, 0.0, {})


def test_the_flag_rate_is_that_of_the_last_records(bundle: Bundle) -> None:
    watch = DriftWatch(bundle.preprocessor, TARGET)
    nothing = watch.sample(np.zeros((0, bundle.preprocessor.n_columns), dtype=np.float32), None, np.zeros(0))
    watch.observe(np.full(5_000, 0.001), nothing)
    assert watch.flag_rate_ratio == pytest.approx(100.0)
    for _ in range(10):
        watch.observe(np.concatenate([np.full(10, 0.001), np.full(990, 0.5)]), nothing)
    assert watch.flag_rate_ratio == pytest.approx(1.0)


def test_an_event_says_in_words_and_fields_what_was_found() -> None:
    abrupt = Drift("abrupt", "flag_rate", (), 7_100, 6_950, 0.0525, 0.01)
    assert abrupt.reason == "more records are flagged than were; 5.25% of the last records were flagged, expected 1.00%"
    assert msgspec.json.decode(msgspec.json.encode(abrupt.detail)) == {
        "kind": "abrupt", "statistic": "flag_rate", "features": [], "at_record": 7_100, "since_record": 6_950,
        "flag_rate": 0.0525, "target_alert_rate": 0.01,
    }  # fmt: skip
    gradual = Drift("gradual", "psi", tuple("abcdef"), 45_000, None, 0.01, 0.01)
    assert gradual.reason.endswith("for 3 windows: a, b, c, d, e, …")


@pytest.mark.training
def test_on_elec2_the_change_of_the_market_is_found_within_five_hundred_records(tmp_path: Path) -> None:
    schema, rows = _elec2()
    registry = Registry(str(tmp_path))
    history = History(frame=rows.head(ELEC2_TRAINED), source="elec2", times=None)
    trained = train_model(history, schema, registry, TrainingPlan(options={"steps": 300}, seed=1))
    bundle = registry.load("elec2", trained.version)
    watch = DriftWatch(bundle.preprocessor, TARGET)
    drifts = observe(watch, bundle, rows[ELEC2_TRAINED:], first=ELEC2_TRAINED)
    assert 0 < ELEC2_TRAINED + drifts[0].at - ELEC2_CHANGE <= 500
    (gradual,) = [drift for drift in drifts if drift.kind == "gradual"]
    assert {"vicprice", "vicdemand", "transfer"} <= set(gradual.features)


def _elec2() -> tuple[Schema, pl.DataFrame]:
    """The electricity market of New South Wales, half-hour by half-hour."""
    folder = os.environ.get("GANWATCH_DATA")
    path = Path(folder or "", "elec2", "elec.csv.gz")
    if folder is None or not path.exists():
        missing = f"the set elec2 is absent: {path} (GANWATCH_DATA)"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    table = pl.read_csv(path).drop("class")
    features = [{"name": name, "kind": "numeric"} for name in table.columns]
    return Schema.from_mapping({"name": "elec2", "features": features}, "tests"), table.cast(pl.Float64)
