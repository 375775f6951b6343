"""PSI on windows of inputs: what is counted, what is chance, and what is told."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.drift.psi import LIMIT, PERSISTENCE, InputWatch, population_stability_index
from monitor.model.calibration import tie_breakers
from monitor.model.preprocess import Preprocessor
from monitor.model.schema import Schema
from monitor.model.shares import FeatureShares, Reference, count_bins, describe
from tests import machines
from training.preprocessing import fit_preprocessor

WINDOW = 5_000
MANY_LEVELS = 200


def fitted(frame: pl.DataFrame, **kinds: str) -> Preprocessor:
    features = [{"name": name, "kind": kinds.get(name, "numeric")} for name in frame.columns]
    return fit_preprocessor(frame, Schema.from_mapping({"name": "t", "features": features}, "tests"))


def watch_of(preprocessor: Preprocessor, frame: pl.DataFrame, *, batch: int = 1_700) -> tuple[InputWatch, list[str]]:
    """A watch after these rows, and the features that it named."""
    watch, named = InputWatch(preprocessor), []
    for start in range(0, frame.height, batch):
        rows = preprocessor.transform(frame[start : start + batch])
        numbers = np.arange(start, start + len(rows.X))
        sampled = watch.sample(rows.X, rows.missing, tie_breakers("tests", "features", 0, numbers))
        named += [shift.feature for shift in watch.observe(sampled)]
    return watch, named


def of_window(preprocessor: Preprocessor, frame: pl.DataFrame) -> dict[str, list[int]]:
    """Counts of every bin."""
    rows = preprocessor.transform(frame)
    absent = np.zeros(len(frame.columns), dtype=np.int64) if rows.missing is None else rows.missing.sum(axis=0)
    assert preprocessor.reference is not None
    edges = [feature.edges for feature in preprocessor.reference.features]
    counts = count_bins(preprocessor, edges, rows.X, absent)
    return {name: bins.tolist() for name, bins in zip(frame.columns, counts, strict=True)}


def test_psi_is_the_sum_over_the_bins() -> None:
    q, r = np.array([0.25, 0.75]), np.array([0.5, 0.5])
    expected = float(((q - r) * np.log(q / r)).sum())
    assert population_stability_index(np.array([25_000, 75_000]), (0.5, 0.5), 100_000) == pytest.approx(
        expected, rel=1e-3
    )


def test_each_kind_is_counted_in_its_bins_and_missing_values_in_their_own() -> None:
    frame = pl.DataFrame(
        {
            "number": [float(value) for value in range(100)],
            "text": ["a"] * 60 + ["b"] * 40,
            "flag": [True] * 30 + [False] * 70,
        }
    )
    preprocessor = fitted(frame, text="categorical", flag="boolean")
    live = pl.DataFrame(
        {
            "number": [0.0, 5.0, 95.0, None, -7.0],
            "text": ["a", "b", "new", None, None],
            "flag": [True, None, None, False, True],
        },
        schema={"number": pl.Float64, "text": pl.String, "flag": pl.Boolean},
    )
    counts = of_window(preprocessor, live)
    assert sum(counts["number"]) == 5
    assert counts["number"][0] == 3  # below the first decile
    assert counts["number"][-2:] == [1, 1]
    assert counts["text"] == [1, 1, 1, 2]
    assert counts["flag"] == [1, 2, 2]


def test_the_training_rows_are_in_the_bundle_with_a_tenth_in_each_bin() -> None:
    frame = pl.DataFrame({"x": np.random.default_rng(0).normal(size=10_000)})
    reference = fitted(frame).reference
    assert reference is not None
    (feature,) = reference.features
    assert len(feature.edges) == 9
    assert feature.shares == pytest.approx([0.1] * 10 + [0.0], abs=0.001)
    assert reference.n_rows == 10_000


def test_a_value_that_most_rows_share_has_a_bin_of_its_own() -> None:
    frame = pl.DataFrame({"x": [0.0] * 950 + [float(value) for value in range(-25, 25)]})
    (feature,) = fitted(frame).reference.features  # type: ignore[union-attr]
    assert max(feature.shares) == pytest.approx(0.951)
    counts = of_window(fitted(frame), pl.DataFrame({"x": [0.0, 0.001, 5.0, -0.001, -5.0]}))
    assert counts["x"] == [2, 1, 2, 0]


def test_the_reference_survives_the_file_and_older_files_have_none() -> None:
    preprocessor = fitted(machines.readings(500, seed=1), mode="categorical", cooling="boolean")
    assert Preprocessor.from_json(preprocessor.to_json()) == preprocessor
    older = preprocessor.to_json().split(b',\n "reference"')[0] + b"}"
    assert Preprocessor.from_json(older).reference is None


@pytest.mark.parametrize(
    "reference",
    [
        Reference(0, (FeatureShares((), (1.0, 0.0)),)),
        Reference(5, ()),
        Reference(5, (FeatureShares((1.0,), (0.5, 0.5)),)),
        Reference(5, (FeatureShares((2.0, 1.0), (0.5, 0.5, 0.0, 0.0)),)),
    ],
)
def test_a_reference_for_other_features_is_refused(reference: Reference) -> None:
    preprocessor = fitted(pl.DataFrame({"x": [1.0, 2.0]}))
    with pytest.raises(ValueError, match="reference"):
        Preprocessor(preprocessor.columns, preprocessor.clip, reference)


def test_unchanged_readings_never_alarm_and_their_psi_is_near_nought() -> None:
    preprocessor = fitted(machines.readings(6_000, seed=1), mode="categorical", cooling="boolean")
    watch, named = watch_of(preprocessor, machines.readings(20 * WINDOW, seed=2))
    assert named == []
    assert watch.psi.keys() == set(preprocessor.feature_names)
    assert max(watch.psi.values()) < LIMIT / 5


def test_chance_is_taken_off_so_that_many_levels_do_not_look_like_drift() -> None:
    rng = np.random.default_rng(3)
    levels = np.array([f"l{number}" for number in range(MANY_LEVELS)])
    preprocessor = fitted(pl.DataFrame({"c": rng.choice(levels, 5_000)}), c="categorical")
    live = pl.DataFrame({"c": rng.choice(levels, 40 * WINDOW)})
    watch, named = watch_of(preprocessor, live)
    plain = population_stability_index(
        np.array(of_window(preprocessor, live.head(WINDOW))["c"]),
        preprocessor.reference.features[0].shares,  # type: ignore[union-attr]
        5_000,
    )
    assert plain > 0.06
    assert watch.psi["c"] < 0.04
    assert named == []


def test_a_feature_that_stays_shifted_is_named_once_after_three_windows() -> None:
    preprocessor = fitted(machines.readings(6_000, seed=1), mode="categorical", cooling="boolean")
    shifted = machines.readings(8 * PERSISTENCE * WINDOW, seed=2).with_columns(pl.col("motor.temperature_c") + 8.0)
    almost, named = watch_of(preprocessor, shifted.head(PERSISTENCE * WINDOW - 1))
    assert named == []
    assert almost.psi["motor.temperature_c"] > LIMIT
    _, named = watch_of(preprocessor, shifted)
    assert named == ["motor.temperature_c"]


def test_a_shift_of_two_windows_is_not_told() -> None:
    preprocessor = fitted(machines.readings(6_000, seed=1), mode="categorical", cooling="boolean")
    calm = machines.readings(6 * WINDOW, seed=2)
    shifted = machines.readings(2 * WINDOW, seed=3).with_columns(pl.col("pieces") * 2)
    assert watch_of(preprocessor, pl.concat([calm, shifted, calm]))[1] == []


@pytest.mark.parametrize(("feature", "change"), [("mode", "turn"), ("mode", None), ("load", None), ("cooling", None)])
def test_new_levels_and_missing_values_are_drift(feature: str, change: str | None) -> None:
    frame = machines.readings(6_000, seed=1).with_columns(pl.col("load").fill_null(0.5))
    preprocessor = fitted(frame, mode="categorical", cooling="boolean")
    live = machines.readings(4 * PERSISTENCE * WINDOW, seed=2).with_columns(pl.col("load").fill_null(0.5))
    mixed = live.with_columns(
        pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit(change)).otherwise(pl.col(feature)).alias(feature)
    )
    assert watch_of(preprocessor, mixed.cast(live.schema))[1] == [feature]  # type: ignore[arg-type]


def test_without_a_reference_the_first_window_is_one() -> None:
    preprocessor = fitted(machines.readings(6_000, seed=1), mode="categorical", cooling="boolean")
    older = Preprocessor(preprocessor.columns, preprocessor.clip)
    same = machines.readings(6 * WINDOW, seed=2).with_columns(pl.col("load") + 3.0)
    watch, named = watch_of(older, same)
    assert named == []
    assert max(watch.psi.values()) < LIMIT
    shifted = machines.readings(12 * WINDOW, seed=3)
    assert watch_of(older, pl.concat([same, shifted]))[1] == ["load"]


@settings(deadline=None, max_examples=10)
@given(st.integers(50, 9_000), st.integers(50, 9_000))
def test_where_micro_batches_end_changes_no_figure(one: int, other: int) -> None:
    frame = machines.readings(16_000, seed=4)
    preprocessor = fitted(frame.head(1_000), mode="categorical", cooling="boolean")
    assert watch_of(preprocessor, frame, batch=one)[0].psi == watch_of(preprocessor, frame, batch=other)[0].psi != {}


def test_deciles_are_chosen_without_missing_values() -> None:
    X = np.linspace(0, 1, 100, dtype=np.float32).reshape(-1, 1)
    missing = np.zeros((100, 1), dtype=np.bool_)
    missing[:50] = True
    preprocessor = fitted(pl.DataFrame({"x": [0.0, 1.0]}))
    (feature,) = describe(preprocessor, X, missing).features
    assert feature.edges[0] > 0.5
    assert feature.shares[-1] == 0.5


def test_an_array_is_watched_by_its_mean_and_missing_ones_count_as_missing() -> None:
    rng = np.random.default_rng(0)
    schema = Schema.from_mapping(
        {
            "name": "t",
            "features": [{"name": "image", "kind": "array", "shape": [3, 7]}, {"name": "x", "kind": "numeric"}],
        },
        "tests",
    )

    def frame(n: int, shift: float) -> pl.DataFrame:
        cells = pl.Series("image", rng.normal(shift, 1, (n, 21))).set(pl.Series(rng.random(n) < 0.1), None)
        return pl.DataFrame({"image": cells, "x": rng.normal(size=n)})

    preprocessor = fit_preprocessor(frame(5_000, 0.0), schema)
    assert preprocessor.reference is not None
    image = preprocessor.reference.features[0]
    assert len(image.edges) == 9
    assert image.shares[-1] == pytest.approx(0.1, abs=0.02)
    assert min(image.shares) > 0.05, "the missing ones are in no other bin"
    steady, named = watch_of(preprocessor, frame(4 * WINDOW, 0.0))
    assert steady.psi["image"] < LIMIT
    assert named == []
    moved, named = watch_of(preprocessor, frame(4 * WINDOW, 0.5))
    assert moved.psi["image"] > LIMIT > moved.psi["x"]
    assert named == ["image"]
