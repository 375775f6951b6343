"""The transform: element by element, the same for a row alone and in any batch, equal to a short float64 formula."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitor.model.bundle import Bundle
from monitor.model.fitted_columns import ArrayColumn, BooleanColumn, CategoricalColumn, NumericColumn
from monitor.model.preprocess import Preprocessor
from tests import machines

LOGGED = NumericColumn(feature="size", typical=9.0, log=True, mean=2.0, sd=0.5)
PLAIN = NumericColumn(feature="load", typical=0.25, log=False, mean=0.5, sd=0.2)
MODE = CategoricalColumn(feature="mode", values=("drill", "idle"))
COOLING = BooleanColumn(feature="cooling", typical=True)
PREPROCESSOR = Preprocessor(columns=(LOGGED, MODE, PLAIN, COOLING), clip=10.0)
ORDINARY: dict[str, Any] = {"size": 20.0, "mode": "idle", "load": 0.75, "cooling": False}
DTYPES = {"size": pl.Float64, "mode": pl.String, "load": pl.Float64, "cooling": pl.Boolean}


def rows(*changes: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([ORDINARY | change for change in changes], schema=DTYPES)


def transform(*changes: dict[str, Any]) -> NDArray[np.float32]:
    return PREPROCESSOR.transform(rows(*changes)).X


def random_rows(n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    size = rng.lognormal(3, 3, n) * rng.choice([-1, 1], n)
    return pl.DataFrame(
        {
            "size": [None if u < 0.1 else float(v) for u, v in zip(rng.random(n), size, strict=True)],
            "mode": rng.choice(["drill", "idle", "mill", None], n),  # type: ignore[arg-type]
            "load": rng.normal(0, 10, n),
            "cooling": [[True, False, None][place] for place in rng.integers(0, 3, n)],
        },
        schema=DTYPES,
    )


def inverse_of(preprocessor: Preprocessor, place: int, x_hat: Any) -> list[Any]:
    """The values of one feature."""
    return [value for (value,) in preprocessor.inverse(x_hat, np.full((len(x_hat), 1), place))]


def test_the_columns_stand_in_schema_order_with_one_more_than_the_levels_for_a_category() -> None:
    assert (PREPROCESSOR.widths, PREPROCESSOR.starts.tolist(), PREPROCESSOR.n_columns) == (
        (1, 3, 1, 1),
        [0, 1, 4, 5],
        6,
    )
    X = transform({})
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X[0, 1:4], [0, 1, 0])
    assert X[0, 5] == 0


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_equal_the_formula_in_float64(values: list[float]) -> None:
    found = transform(*({"size": v, "load": v} for v in values))
    v = np.array(values)
    with np.errstate(over="ignore"):
        logged = 10 * np.tanh((np.sign(v) * np.log1p(np.abs(v)) - 2.0) / 0.5 / 10)
        plain = 10 * np.tanh((v - 0.5) / 0.2 / 10)
    np.testing.assert_allclose(found[:, 0], logged, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[:, 4], plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("clip", [10.0, None])
def test_a_row_gives_the_same_bits_in_every_batch_size(clip: float | None) -> None:
    preprocessor = Preprocessor(columns=PREPROCESSOR.columns, clip=clip)
    frame = random_rows(71, seed=3)
    whole = preprocessor.transform(frame)
    assert whole.missing is not None
    for size in range(1, 71):
        for start in (0, 71 - size):
            part = preprocessor.transform(frame[start : start + size])
            assert part.X.tobytes() == whole.X[start : start + size].tobytes()
            expected = whole.missing[start : start + size]
            assert (part.missing is None) == (not expected.any())
            assert part.missing is None or (part.missing == expected).all()


def test_the_committed_model_transforms_a_row_the_same_in_every_batch_size(machines_bundle: Bundle) -> None:
    frame = machines.readings(70, seed=5, anomalies=5)
    whole = machines_bundle.preprocessor.transform(frame).X
    for size in range(1, 71):
        parts = [machines_bundle.preprocessor.transform(part).X for part in frame.iter_slices(size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_a_missing_value_is_replaced_by_the_typical_one_and_marked() -> None:
    transformed = PREPROCESSOR.transform(rows({"size": None, "load": None, "cooling": None}, {"mode": None}, {}))
    np.testing.assert_array_equal(transformed.X[0], transform({"size": 9.0, "load": 0.25, "cooling": True})[0])
    assert transformed.missing is not None
    np.testing.assert_array_equal(
        transformed.missing, [[True, False, True, True], [False, True, False, False], [False] * 4]
    )


def test_nan_is_a_missing_value() -> None:
    transformed = PREPROCESSOR.transform(rows({"load": math.nan}))
    np.testing.assert_array_equal(transformed.X, transform({"load": None}))
    np.testing.assert_array_equal(transformed.missing, [[False, False, True, False]])


def test_nothing_is_marked_where_nothing_is_missing() -> None:
    assert PREPROCESSOR.transform(rows({}, {"mode": "never seen"})).missing is None


@pytest.mark.parametrize(("value", "one_hot"), [("drill", [1, 0, 0]), ("never seen", [0, 0, 1]), (None, [0, 0, 1])])
def test_unknown_and_missing_categories_get_the_last_level(value: str | None, one_hot: list[int]) -> None:
    np.testing.assert_array_equal(transform({"mode": value})[0, 1:4], one_hot)


@pytest.mark.parametrize("value", ["", "Drill", "drill ", "0", "é", "x" * 10_000])
def test_a_category_is_compared_exactly(value: str) -> None:
    np.testing.assert_array_equal(transform({"mode": value})[0, 1:4], [0, 0, 1])


@pytest.mark.parametrize("clip", [10.0, None])
@pytest.mark.parametrize("value", [1e308, -1e308, 1.7976931348623157e308, 5e-324, -0.0])
def test_extreme_numbers_stay_finite_and_keep_their_sign(value: float, clip: float | None) -> None:
    tiny_sd = NumericColumn(feature="load", typical=0.0, log=False, mean=0.0, sd=1e-12)
    X = Preprocessor(columns=(LOGGED, tiny_sd), clip=clip).transform(rows({"size": value, "load": value})).X
    assert np.isfinite(X).all()
    largest = clip or float(np.finfo(np.float32).max)
    assert X[0, 1] == (math.copysign(largest, value) if abs(value) > 1 else np.float32(value / 1e-12))
    assert np.sign(X[0, 0]) == (1 if value > 1 else -1)


def test_the_soft_clip_bounds_a_number_and_no_clip_does_not() -> None:
    assert transform({"load": 1e6})[0, 4] == 10.0
    unbounded = Preprocessor(columns=(PLAIN,), clip=None)
    assert unbounded.transform(rows({"load": 1e6}).select("load")).X[0, 0] == np.float32((1e6 - 0.5) / 0.2)


def test_an_empty_frame_gives_no_rows_of_full_width() -> None:
    assert PREPROCESSOR.transform(rows({}).clear()).X.shape == (0, 6)


def test_a_schema_without_numbers_and_a_category_without_levels_can_be_transformed() -> None:
    preprocessor = Preprocessor(columns=(CategoricalColumn(feature="mode", values=()), COOLING), clip=10.0)
    transformed = preprocessor.transform(rows({}, {"cooling": True}).select("mode", "cooling"))
    np.testing.assert_array_equal(transformed.X, [[1, 0], [1, 1]])
    assert inverse_of(preprocessor, 0, transformed.X) == [None, None]


def test_the_columns_of_the_frame_may_stand_in_any_order() -> None:
    frame = random_rows(10, seed=1)
    shuffled = frame.select("cooling", "load", "size", "mode")
    np.testing.assert_array_equal(PREPROCESSOR.transform(shuffled).X, PREPROCESSOR.transform(frame).X)


def test_json_keeps_everything() -> None:
    awkward = Preprocessor(
        columns=(
            NumericColumn(feature='q"', typical=0.1, log=True, mean=1 / 3, sd=5e-324),
            CategoricalColumn(feature="größe", values=("", "\u2028", 'say "hi"', "\x00", "😀")),
            COOLING,
        ),
        clip=None,
    )
    assert Preprocessor.from_json(awkward.to_json()) == awkward
    assert Preprocessor.from_json(PREPROCESSOR.to_json()) == PREPROCESSOR


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b'{"columns":[],"clip":10,"more":1}', b'{"columns":[{"kind":"text","feature":"a"}],"clip":1}',
     b'{"columns":[{"kind":"boolean","feature":"a"}],"clip":1}', b"\x80"],
)  # fmt: skip
def test_json_of_another_form_is_refused(content: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        Preprocessor.from_json(content)


@settings(deadline=None, max_examples=60)
@given(st.floats(-1e5, 1e5), st.floats(-1.4, 2.4), st.sampled_from(["drill", "idle"]), st.booleans())
def test_the_inverse_gives_back_the_value_in_its_own_unit(
    size: float,
    load: float,
    mode: str,
    cooling: bool,  # noqa: FBT001
) -> None:
    X = transform({"size": size, "mode": mode, "load": load, "cooling": cooling})
    (size_hat,), (load_hat,) = inverse_of(PREPROCESSOR, 0, X), inverse_of(PREPROCESSOR, 2, X)
    assert isinstance(size_hat, float)
    assert isinstance(load_hat, float)
    assert size_hat == pytest.approx(size, rel=1e-3, abs=1e-5)
    assert load_hat == pytest.approx(load, rel=1e-5, abs=1e-5)
    assert inverse_of(PREPROCESSOR, 1, X) == [mode]
    assert inverse_of(PREPROCESSOR, 3, X) == [cooling]


def test_the_inverse_is_finite_even_at_the_ends_of_the_soft_clip() -> None:
    X = np.array([[10, 0, 0, 0, 10, 1], [-10, 0, 0, 0, -10, 0], [99, 0, 0, 0, -99, 0]], dtype=np.float32)
    for place in (0, 2):
        assert np.isfinite(inverse_of(PREPROCESSOR, place, X)).all()  # type: ignore[arg-type]


def test_the_inverse_rounds_to_six_significant_digits() -> None:
    identity = Preprocessor(columns=(NumericColumn(feature="a", typical=0, log=False, mean=0, sd=1),), clip=None)
    X = np.array([[123456.7], [-0.000123456789], [0.0], [1e-30], [3e20], [98765432]], dtype=np.float32)
    assert inverse_of(identity, 0, X) == [123457.0, -0.000123457, 0.0, 1e-30, 3e20, 98765400.0]


PHOTO = ArrayColumn(feature="photo", shape=(1, 2, 1), typical=(4.0, 6.0), centre=5.0, scale=2.0)
WITH_PHOTO = Preprocessor(columns=(PLAIN, PHOTO, COOLING), clip=10.0)


def photos(*values: list[float] | None) -> pl.DataFrame:
    n = len(values)
    return pl.DataFrame(
        {"load": [0.5] * n, "photo": pl.Series(values, dtype=pl.Array(pl.Float64, 2)), "cooling": [True] * n}
    )


def test_the_cells_of_an_array_are_scaled_alike_and_stand_side_by_side() -> None:
    assert (WITH_PHOTO.widths, WITH_PHOTO.starts.tolist(), WITH_PHOTO.n_columns) == ((1, 2, 1), [0, 1, 3], 4)
    X = WITH_PHOTO.transform(photos([3.0, 7.0], [5.0, 105.0])).X
    expected = 10 * np.tanh((np.array([[3.0, 7.0], [5.0, 105.0]]) - 5.0) / 2.0 / 10)
    np.testing.assert_allclose(X[:, 1:3], expected, rtol=1e-6)
    np.testing.assert_array_equal(X[:, [0, 3]], [[0, 1], [0, 1]])


def test_a_missing_array_is_replaced_by_the_typical_one_and_marked() -> None:
    found = WITH_PHOTO.transform(photos([3.0, 7.0], None))
    np.testing.assert_array_equal(found.X[1], WITH_PHOTO.transform(photos([4.0, 6.0])).X[0])
    np.testing.assert_array_equal(found.missing, [[False] * 3, [False, True, False]])
    assert WITH_PHOTO.transform(photos([3.0, 7.0])).missing is None


@pytest.mark.parametrize("clip", [10.0, None])
def test_an_array_gives_the_same_bits_in_every_batch_size_and_stays_finite(clip: float | None) -> None:
    values = np.random.default_rng(0).normal(0, 100, (40, 2))
    values[3] = [1.7976931348623157e308, -1.7976931348623157e308]
    frame = photos(*values.tolist(), None)
    preprocessor = Preprocessor(columns=WITH_PHOTO.columns, clip=clip)
    whole = preprocessor.transform(frame).X
    assert np.isfinite(whole).all()
    for size in range(1, 41):
        assert preprocessor.transform(frame[3 : 3 + size]).X.tobytes() == whole[3 : 3 + size].tobytes()


def test_the_inverse_of_an_array_is_that_of_the_cell_asked_for() -> None:
    X = WITH_PHOTO.transform(photos([3.0, 7.0], [4.5, -20.0])).X
    places, cells = np.array([[1, 0], [1, 2]]), np.array([[1, 0], [0, 0]])
    assert WITH_PHOTO.inverse(X, places, cells) == [[7.0, 0.5], [4.5, True]]


def test_an_array_column_survives_its_file_and_one_that_does_not_fit_its_shape_is_refused() -> None:
    content = WITH_PHOTO.to_json()
    assert Preprocessor.from_json(content) == WITH_PHOTO
    for damaged in (content.replace(b"4.0,", b""), content.replace(b'"scale": 2.0', b'"scale": 0.0')):
        with pytest.raises(msgspec.DecodeError):
            Preprocessor.from_json(damaged)
