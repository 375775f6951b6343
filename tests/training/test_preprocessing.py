"""Fitting the transform: medians, means and levels of the training rows, safe on every awkward column."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.model.fitted_columns import ArrayColumn, BooleanColumn, CategoricalColumn, NumericColumn
from monitor.model.preprocess import Preprocessor
from monitor.model.schema import Kind, Schema
from tests.machines import SCHEMA, readings
from training.preprocessing import MAX_LEVELS, Scaling, fit_preprocessor, value_cells

DTYPES = {"numeric": pl.Float64, "categorical": pl.String, "boolean": pl.Boolean}


def fitted(values: list[Any], kind: Kind = "numeric", scaling: Scaling = "log_zscore") -> Preprocessor:
    schema = Schema.from_mapping({"name": "s", "features": [{"name": "v", "kind": kind}]}, "tests")
    frame = pl.DataFrame({"v": values}, schema={"v": DTYPES[kind]})
    preprocessor = fit_preprocessor(frame, schema, scaling=scaling)
    assert Preprocessor.from_json(preprocessor.to_json()) == preprocessor
    assert np.isfinite(preprocessor.transform(frame).X).all()
    return preprocessor


def numeric(values: list[float | None], scaling: Scaling = "log_zscore") -> NumericColumn:
    (column,) = fitted(values, scaling=scaling).columns
    assert isinstance(column, NumericColumn)
    return column


def test_a_small_number_is_standardised_by_mean_and_sd() -> None:
    column = numeric([1.0, 2.0, 6.0, None])
    assert (column.typical, column.log) == (2.0, False)
    assert [column.mean, column.sd] == pytest.approx([3.0, np.std([1, 2, 6])])


def test_a_wide_non_negative_column_is_taken_by_its_logarithm() -> None:
    column = numeric([0.0, 10.0, 1000.0])
    assert (column.typical, column.log) == (10.0, True)
    assert column.mean == pytest.approx(np.log1p([0, 10, 1000]).mean())
    assert column.sd == pytest.approx(np.log1p([0, 10, 1000]).std())


@pytest.mark.parametrize(("values", "log"), [([0.0, 20.0], False), ([0.0, 20.1], True), ([-0.1, 1000.0], False)])
def test_only_columns_beyond_twenty_and_never_below_nought_are_logged(values: list[float | None], log: bool) -> None:  # noqa: FBT001
    assert numeric(values).log is log
    assert numeric(values, scaling="zscore").log is False


def test_scaling_none_leaves_values_as_they_are() -> None:
    preprocessor = fitted([3.0, 1e6, -7.0], scaling="none")
    assert preprocessor.clip is None
    X = preprocessor.transform(pl.DataFrame({"v": [1e6, -7.0, None]})).X
    np.testing.assert_array_equal(X[:, 0], [1e6, -7, 3])


def test_the_training_rows_have_mean_nought_and_sd_one_before_the_soft_clip() -> None:
    frame = readings(2000, seed=1)
    preprocessor = fit_preprocessor(frame, SCHEMA)
    z = preprocessor.transform(frame).X[:, [0, 1, 2]].astype(np.float64)
    present = frame["load"].is_not_null().to_numpy()
    unclipped = 10 * np.arctanh(z / 10)
    np.testing.assert_allclose(unclipped[present].mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(unclipped[present].std(axis=0), 1, atol=0.02)


@pytest.mark.parametrize("values", [[7.0] * 5, [0.0] * 5, [0.1] * 7, [1e300] * 3, [-3.0, None, -3.0], [1e-300] * 3])
def test_a_constant_column_keeps_its_unit(values: list[float | None]) -> None:
    column = numeric(values)
    assert column.sd == 1.0
    assert column.typical == values[0]


@pytest.mark.parametrize("unit", [1e-15, 1e-19, 1e-200, 1e150, 1e300])
def test_the_unit_of_a_column_does_not_matter(unit: float) -> None:
    values: list[float | None] = [1 * unit, 2 * unit, 6 * unit]
    column = numeric(values, scaling="zscore")
    assert column.sd == pytest.approx(np.std([1, 2, 6]) * unit)
    X = fitted(values, scaling="zscore").transform(pl.DataFrame({"v": values})).X
    np.testing.assert_allclose(X, fitted([1.0, 2.0, 6.0]).transform(pl.DataFrame({"v": [1.0, 2.0, 6.0]})).X, rtol=1e-6)


def test_numbers_at_the_ends_of_float64_can_be_fitted() -> None:
    column = numeric([1e308, -1e308, 0.0])
    assert np.isfinite([column.mean, column.sd]).all()
    assert column.sd == pytest.approx(1e308 * np.sqrt(2 / 3))


@pytest.mark.parametrize(
    ("usual", "extremes"),
    [
        ((0, 1), [1e300]),
        ((0, 1), [-1e300, 1e300]),
        ((100, 1), [-99999.0]),
        ((101_325, 100), [1e9]),
        ((0.505, 0.002), [999_999.0]),
        ((1.7e9, 3e6), [0.0]),
    ],
)
@pytest.mark.parametrize("scaling", ["log_zscore", "zscore"])
def test_numbers_out_of_all_proportion_do_not_set_the_scale(
    usual: tuple[float, float], extremes: list[float], scaling: Scaling
) -> None:
    values: list[float | None] = np.random.default_rng(0).normal(*usual, 1000).tolist()
    if scaling == "zscore" and extremes == [0.0]:
        extremes = [-1e13]
    column, expected = numeric([*extremes, *values], scaling), numeric(values, scaling)
    assert (column.log, column.mean, column.sd) == (
        expected.log,
        pytest.approx(expected.mean),
        pytest.approx(expected.sd),
    )


def test_a_large_number_among_magnitudes_sets_the_scale_and_an_absurd_one_does_not() -> None:
    values: list[float | None] = np.random.default_rng(0).lognormal(4, 2, 300).tolist()
    column = numeric([*values, 1e18])
    assert column.sd == pytest.approx(np.log1p([*values, 1e18]).std())
    assert numeric([*values, 1e300]).sd == pytest.approx(numeric(values).sd)


def test_a_value_hundreds_of_widths_out_sets_the_scale() -> None:
    values: list[float | None] = np.random.default_rng(0).normal(0, 1, 300).tolist()
    assert numeric([*values, -1000.0]).sd == pytest.approx(np.std([*values, -1000.0]))


def test_rare_values_beside_a_constant_one_set_the_scale() -> None:
    assert numeric([0.0] * 500 + [1e6], "zscore").sd == pytest.approx(np.std([0.0] * 500 + [1e6]))


@pytest.mark.parametrize("values", [[None, None], [], [float("nan"), None]])
def test_a_column_without_values_is_constant_nought(values: list[float | None]) -> None:
    assert numeric(values) == NumericColumn(feature="v", typical=0.0, log=False, mean=0.0, sd=1.0)


def test_nan_counts_as_missing() -> None:
    assert numeric([1.0, float("nan"), 3.0]).mean == 2.0


def test_levels_are_the_most_frequent_first_and_ties_by_their_text() -> None:
    assert fitted(["b", "c", "a", "c", None, "b", "z"], "categorical").columns == (
        CategoricalColumn(feature="v", values=("b", "c", "a", "z")),
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=30), st.randoms())
def test_the_order_of_the_rows_does_not_matter(values: list[str], random: Any) -> None:
    shuffled = values[:]
    random.shuffle(shuffled)
    assert fitted(values, "categorical") == fitted(shuffled, "categorical")


def test_the_rarest_of_too_many_levels_are_left_to_the_last_one() -> None:
    values = [f"level {row:04d}" for row in range(MAX_LEVELS + 44)] * 2 + ["often"]
    (column,) = fitted([*values, "often", "often"], "categorical").columns
    assert isinstance(column, CategoricalColumn)
    assert len(column.values) == MAX_LEVELS
    assert column.values[0] == "often"
    assert "level 0299" not in column.values


@pytest.mark.parametrize("values", [[None], []])
def test_a_category_without_values_has_only_the_last_level(values: list[str | None]) -> None:
    assert fitted(values, "categorical").n_columns == 1


@pytest.mark.parametrize(
    ("values", "typical"),
    [([True, True, False], True), ([True, False, False], False), ([True, False], True), ([None], False), ([None, True], True)],
)  # fmt: skip
def test_a_missing_boolean_is_the_more_frequent_one(values: list[bool | None], typical: bool) -> None:  # noqa: FBT001
    assert fitted(values, "boolean").columns == (BooleanColumn(feature="v", typical=typical),)


def test_columns_follow_the_schema_not_the_frame() -> None:
    frame = readings(50, seed=1)
    assert fit_preprocessor(frame.select(frame.columns[::-1]), SCHEMA).feature_names == SCHEMA.feature_names


def fitted_array(values: list[Any], scaling: Scaling = "log_zscore") -> tuple[ArrayColumn, np.ndarray]:
    """The column, and X of the same rows."""
    features = [{"name": "v", "kind": "array", "shape": [1, 3]}]
    frame = pl.DataFrame({"v": values}, schema={"v": pl.Array(pl.Float64, 3)})
    preprocessor = fit_preprocessor(
        frame, Schema.from_mapping({"name": "s", "features": features}, "tests"), scaling=scaling
    )
    assert Preprocessor.from_json(preprocessor.to_json()) == preprocessor
    X = preprocessor.transform(frame).X
    assert np.isfinite(X).all()
    (column,) = preprocessor.columns
    assert isinstance(column, ArrayColumn)
    return column, X


def test_an_array_goes_from_minus_one_to_one_as_a_whole() -> None:
    column, X = fitted_array([[0.0, 100.0, 255.0], [0.0, 50.0, 200.0], [0.0, 90.0, 10.0], None])
    assert (column.shape, column.typical) == ((1, 3), (0.0, 90.0, 200.0))
    assert (column.centre, column.scale) == (127.5, 127.5)
    assert [X.min(), X.max()] == pytest.approx([-1, 1], rel=0.004)
    np.testing.assert_array_equal(X[3], fitted_array([[0.0, 90.0, 200.0], [255.0, 0.0, 0.0]])[1][0])


@pytest.mark.parametrize("values", [[[7.0] * 3] * 5, [None] * 5, [[7.0] * 3]])
def test_an_array_that_is_constant_or_missing_everywhere_is_nought(values: list[Any]) -> None:
    column, X = fitted_array(values)
    assert column.scale == 1.0
    assert (X == 0).all()


def test_an_array_of_the_largest_numbers_has_a_finite_scale() -> None:
    column, _ = fitted_array([[1.7e308, -1.7e308, 0.0]])
    assert (column.centre, column.scale) == (0.0, 1.7e308)


def test_the_levels_of_a_category_are_one_value_and_each_number_of_an_array_is_its_own() -> None:
    frame = pl.DataFrame(
        {"a": [1.0, 2.0], "b": ["x", "y"], "c": [True, False], "d": [[1.0, 2.0], [3.0, 4.0]]},
        schema={"a": pl.Float64, "b": pl.String, "c": pl.Boolean, "d": pl.Array(pl.Float64, 2)},
    )
    kinds = [{"name": "a", "kind": "numeric"}, {"name": "b", "kind": "categorical"}, {"name": "c", "kind": "boolean"}]
    features = [*kinds, {"name": "d", "kind": "array", "shape": [2]}]
    preprocessor = fit_preprocessor(frame, Schema.from_mapping({"name": "t", "features": features}, "t"))
    assert preprocessor.widths == (1, 3, 1, 2)  # two levels, and all others
    assert value_cells(preprocessor).tolist() == [0, 1, 1, 1, 2, 3, 4]


def test_scaling_none_leaves_arrays_as_they_are() -> None:
    _, X = fitted_array([[3.0, 1e6, -7.0]], scaling="none")
    np.testing.assert_array_equal(X, [[3.0, 1e6, -7.0]])
