"""Synthetic anomalies: what each kind is, and a reference that stays as it was frozen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from monitor.errors import BundleError
from monitor.model.schema import Feature, Schema
from monitor.model.store import open_store
from tests import machines
from tests.challengers import committed
from training.suite import (
    KINDS,
    Suite,
    freeze_reference,
    make_suite,
    new_reference,
    read_reference,
    without_copies,
)

SCHEMA = machines.SCHEMA


def suite_of(n: int, seed: int = 0) -> Suite:
    return make_suite(machines.readings(n, seed=40), SCHEMA, np.random.default_rng(seed))


def of_kind(suite: Suite, kind: str) -> pl.DataFrame:
    return suite.anomalies.filter(pl.Series(suite.kinds == kind))


def test_each_kind_is_a_third_of_the_anomalies_and_rows_and_labels_agree() -> None:
    suite = suite_of(600)
    assert {kind: int((suite.kinds == kind).sum()) for kind in KINDS} == dict.fromkeys(KINDS, 200)
    assert suite.rows.height == len(suite.labels) == 1200
    assert suite.rows.filter(pl.Series(suite.labels)).equals(suite.anomalies)
    assert suite.anomalies.schema == suite.normals.schema


def test_the_same_seed_makes_the_same_anomalies() -> None:
    assert suite_of(300, seed=1).anomalies.equals(suite_of(300, seed=1).anomalies)
    assert not suite_of(300, seed=1).anomalies.equals(suite_of(300, seed=2).anomalies)


def test_swapped_values_all_occur_in_their_column() -> None:
    suite = suite_of(600)
    for name in SCHEMA.feature_names:
        known = suite.normals[name]
        assert of_kind(suite, "swapped")[name].is_in(known.to_list(), nulls_equal=True).all()


def test_one_number_of_a_shifted_row_lies_outside_of_its_place() -> None:
    suite = suite_of(600)
    numbers = [feature.name for feature in SCHEMA.features if feature.kind == "numeric"]
    shifted = of_kind(suite, "shifted")
    changed = pl.DataFrame({name: ~shifted[name].is_in(suite.normals[name].to_list()) for name in numbers})
    assert (changed.fill_null(value=False).sum_horizontal() == 1).all()
    assert shifted.select("mode", "cooling").height == 200


def test_a_foreign_value_occurs_in_no_normal_row() -> None:
    suite = suite_of(600)
    foreign = of_kind(suite, "foreign")
    level = foreign["mode"] == "never seen before"
    beyond = pl.DataFrame(
        {
            name: (foreign[name] > suite.normals[name].max()).fill_null(value=False)  # type: ignore[operator]
            for name in ("load", "motor.current_a", "motor.temperature_c", "pieces")
        }
    ).sum_horizontal()
    flipped = 200 - int(level.sum()) - int((beyond > 0).sum())
    assert int(level.sum()) > 20
    assert beyond.max() == 1
    assert 10 < flipped < 60


def test_a_trained_model_tells_every_kind_from_normal_rows() -> None:
    suite, bundle = suite_of(900), committed()
    score = bundle.scorer.score(bundle.preprocessor.transform(suite.rows).X)
    for kind in KINDS:
        chosen = np.concatenate([np.ones(suite.normals.height, dtype=bool), suite.kinds == kind])
        assert roc_auc_score(suite.labels[chosen], score[chosen]) > 0.85


@pytest.mark.parametrize("kind", ["categorical", "boolean", "numeric"])
def test_a_schema_of_one_feature_of_any_kind_has_a_suite(kind: str) -> None:
    schema = Schema(name="one", features=(Feature(name="only", kind=kind),))  # type: ignore[arg-type]
    values = {"categorical": ["a", "b", None] * 10, "boolean": [True, False, None] * 10, "numeric": [1.0] * 30}[kind]
    suite = make_suite(pl.DataFrame({"only": values}), schema, np.random.default_rng(0))
    assert suite.anomalies.height == 30
    assert suite.anomalies.schema == suite.normals.schema


def test_for_each_row_taken_away_one_equal_row_goes_and_no_more() -> None:
    frame = pl.DataFrame({"a": [1.0, 2.0, 1.0, None, 1.0], "b": ["x", "y", "x", None, "z"]})
    others = pl.DataFrame({"a": [1.0, None, 9.0], "b": ["x", None, "q"]})
    assert without_copies(frame, others).tolist() == [1, 2, 4]


def test_a_frozen_reference_is_read_back_and_never_replaced(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    frame = machines.readings(1000, seed=41)
    first, second = (new_reference(frame, SCHEMA, np.random.default_rng(seed)) for seed in (0, 1))
    assert read_reference(store, "machines", "v1", SCHEMA) is None
    freeze_reference(store, "machines", "v1", first)
    freeze_reference(store, "machines", "v1", second)
    found = read_reference(store, "machines", "v1", SCHEMA)
    assert found is not None
    assert found.suite.normals.equals(first.suite.normals)
    assert found.suite.anomalies.equals(first.suite.anomalies)
    assert found.suite.kinds.tolist() == first.suite.kinds.tolist()
    assert found.replay.equals(first.replay)
    assert (found.suite.normals.height, found.replay.height) == (200, 300)


def test_held_out_and_replayed_rows_of_a_reference_are_different_ones() -> None:
    frame = machines.readings(1000, seed=41)
    reference = new_reference(frame, SCHEMA, np.random.default_rng(0))
    assert len(without_copies(frame, reference.suite.normals)) == 800
    assert len(without_copies(reference.replay, reference.suite.normals)) == 300


def test_a_damaged_reference_is_named(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.write("references/machines/v1.parquet", b"not parquet")
    with pytest.raises(BundleError, match=r"references/machines/v1\.parquet: cannot be understood"):
        read_reference(store, "machines", "v1", SCHEMA)


IMAGES = Schema(
    name="images", features=(Feature(name="image", kind="array", shape=(5, 4)), Feature(name="x", kind="numeric"))
)


def images(n: int, *, missing: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(7)
    cells = pl.Series("image", rng.normal(10, 1, (n, 20))).set(pl.Series(rng.random(n) < missing), None)
    return pl.DataFrame({"image": cells, "x": rng.normal(size=n)})


def cells_of(frame: pl.DataFrame) -> np.ndarray:
    return frame["image"].to_numpy()


def test_anomalies_of_an_array_are_some_of_its_cells() -> None:
    alone = Schema(name="images", features=IMAGES.features[:1])
    suite = make_suite(images(300).select("image"), alone, np.random.default_rng(0))
    assert suite.anomalies.schema == suite.normals.schema
    known = cells_of(suite.normals)
    for kind in KINDS:
        changed = [min((row != normal).sum() for normal in known) for row in cells_of(of_kind(suite, kind))]
        assert max(changed) <= 12
        assert np.mean(changed) > 1.5, "most have more than one cell of their own"
    foreign = cells_of(of_kind(suite, "foreign"))
    assert ((foreign > known.max()).sum(axis=1) == 2).all()
    swapped = cells_of(of_kind(suite, "swapped"))
    assert np.isin(swapped, known).all(), "the cells of others, in their places"


def test_a_detector_that_adds_up_the_deviations_finds_the_anomalies_of_arrays() -> None:
    suite = make_suite(images(600, missing=0.1), IMAGES, np.random.default_rng(0))
    assert suite.anomalies.schema == suite.normals.schema
    rows = cells_of(suite.rows)
    deviation = np.nan_to_num(np.abs(rows - 10)).max(axis=1) + np.abs(suite.rows["x"].to_numpy())
    for kind in ("shifted", "foreign"):
        chosen = ~suite.labels | np.concatenate([np.zeros(600, dtype=bool), suite.kinds == kind])
        assert roc_auc_score(suite.labels[chosen], deviation[chosen]) > 0.8


def test_a_frozen_reference_holds_arrays_unchanged(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), "registry")
    reference = new_reference(images(200, missing=0.1), IMAGES, np.random.default_rng(0))
    freeze_reference(store, "images", "v1", reference)
    again = read_reference(store, "images", "v1", IMAGES)
    assert again is not None
    assert again.suite.rows.equals(reference.suite.rows)
    assert again.replay.equals(reference.replay)
    frame = images(50)
    assert without_copies(frame, frame[:20]).tolist() == list(range(20, 50))
