"""Array features: nested or flat they mean the same, whatever their neighbours are, in records and in files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.errors import ConfigError, InvalidRecord
from monitor.model.array_values import from_objects, shape_of
from monitor.model.decode import Decoder
from monitor.model.schema import Schema
from monitor.model.tables import read_features, read_sample
from tests.monitor.raw_records import NUMBERS, Record

FEATURES = [
    {"name": "v", "kind": "numeric"},
    {"name": "scan.image", "kind": "array", "shape": [2, 2]},
    {"name": "wave", "kind": "array", "shape": [3]},
]
SCHEMA = Schema.from_mapping({"name": "t", "features": FEATURES}, "tests")
DECODER = Decoder(SCHEMA, max_record_bytes=20_000)
IMAGES = Schema.from_mapping(
    {"name": "images", "features": [{"name": "image", "kind": "array", "shape": [2, 2]}]}, "tests"
)


def verdicts(records: Sequence[Record], decoder: Decoder = DECODER) -> list[Any]:
    """Per record its row of values, or its reason and detail."""
    decoded = decoder.decode(records)
    assert decoded.frame.schema == decoder.decode([]).frame.schema
    good = dict(zip(decoded.rows, decoded.frame.rows(), strict=True))
    bad = {row: (error.reason, error.detail) for row, error in decoded.invalid}
    assert sorted([*good, *bad]) == list(range(len(records)))
    return [good[row] if row in good else bad[row] for row in range(len(records))]


def with_image(value: object) -> bytes:
    return json.dumps({"scan": {"image": value}}).encode()


def problem_of(image: str) -> tuple[str, str]:
    (verdict,) = verdicts([b'{"scan":{"image":%s}}' % image.encode()])
    return verdict  # type: ignore[no-any-return]


def test_a_nested_array_and_a_flat_one_are_the_same_values_in_one_batch() -> None:
    records: list[Record] = [
        b'{"scan":{"image":[1,2.5,-3,4e2]},"wave":[1,2,3]}',
        b'{"scan":{"image":[[1,2.5],[-3,4e2]]},"wave":[1,2,3]}',
        b'{"v":7}',
    ]
    expected = (None, [1.0, 2.5, -3.0, 400.0], [1.0, 2.0, 3.0])
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0], [1, 1, 2], [0, 0, 2]):
        found = verdicts([records[place] for place in order])
        assert found == [[expected, expected, (7.0, None, None)][place] for place in order]


@pytest.mark.parametrize("shape", [(5,), (1,), (2, 3), (3, 1), (2, 3, 4), (1, 1, 1), (8, 8, 1)])
def test_what_numpy_writes_comes_back_row_by_row(shape: tuple[int, ...]) -> None:
    feature = {"name": "x", "kind": "array", "shape": list(shape)}
    decoder = Decoder(Schema.from_mapping({"name": "t", "features": [feature]}, "tests"), 100_000)
    arrays = np.random.default_rng(0).normal(size=(7, *shape))
    for records in (arrays.tolist(), arrays.reshape(7, -1).tolist()):
        decoded = decoder.decode([json.dumps({"x": values}).encode() for values in records])
        np.testing.assert_array_equal(decoded.frame["x"].to_numpy(), arrays.reshape(7, -1))


@pytest.mark.parametrize(
    ("image", "detail"),
    [
        ("1", "Expected `array | null`, got `int` - at `scan.image`"),
        ('"[1,2,3,4]"', "Expected `array | null`, got `str` - at `scan.image`"),
        ("{}", "Expected `array | null`, got `object` - at `scan.image`"),
        ("[]", "Expected 4 numbers, got 0 - at `scan.image`"),
        ("[1,2,3]", "Expected 4 numbers, got 3 - at `scan.image`"),
        ("[1,2,3,4,5]", "Expected 4 numbers, got 5 - at `scan.image`"),
        ("[1,2,3,null]", "Expected `float`, got `null` - at `scan.image[3]`"),
        ("[1,2,true,4]", "Expected `float`, got `bool` - at `scan.image[2]`"),
        ('["1",2,3,4]', "Expected `float`, got `str` - at `scan.image[0]`"),
        ("[1,2,3,[4]]", "Expected `float`, got `array` - at `scan.image[3]`"),
        ("[1,{},3,4]", "Expected `float`, got `object` - at `scan.image[1]`"),
        ("[[1,2],[3]]", "Expected 2 numbers, got 1 - at `scan.image[1]`"),
        ("[[1,2]]", "Expected 2 arrays, got 1 - at `scan.image`"),
        ("[[1],[2],[3],[4]]", "Expected 2 arrays, got 4 - at `scan.image`"),
        ("[[1,2],[3,null]]", "Expected `float`, got `null` - at `scan.image[1,1]`"),
        ("[[1,2],null]", "Expected `array`, got `null` - at `scan.image[1]`"),
        ("[[1,2],3]", "Expected `array`, got `int` - at `scan.image[1]`"),
        ("[[[1],[2]],[3,4]]", "Expected `float`, got `array` - at `scan.image[0,0]`"),
        ("[1,2,3,1e400]", "Number out of range - at `scan.image[3]`"),
    ],
)
def test_the_reason_names_the_place_of_what_is_wrong(image: str, detail: str) -> None:
    assert problem_of(image) == ("wrong_type", detail)


@pytest.mark.parametrize("image", ["[1,2,3,NaN]", "[1,2,3", "[1,,3,4]", "[1,2,3,%s]" % ("1" * 50), "[" * 3000])
def test_what_is_no_json_or_beyond_any_number_is_refused(image: str) -> None:
    assert problem_of(image)[0] == "not_json"


def test_all_arrays_of_a_record_are_nested_or_all_are_flat() -> None:
    features = [{"name": name, "kind": "array", "shape": [2, 1]} for name in "ab"]
    decoder = Decoder(Schema.from_mapping({"name": "t", "features": features}, "tests"), 1000)
    flat, nested = b'{"a":[1,2],"b":[3,4]}', b'{"a":[[1],[2]],"b":[[3],[4]]}'
    mixed = b'{"a":[1,2],"b":[[3],[4]]}'
    values = ([1.0, 2.0], [3.0, 4.0])
    assert verdicts([flat, mixed, nested], decoder) == [
        values,
        ("wrong_type", "Expected `array`, got `int` - at `a[0]`"),
        values,
    ]
    assert verdicts([b'{"a":null,"b":[[3],[4]]}'], decoder) == [(None, [3.0, 4.0])]


def test_a_missing_array_is_null_and_refused_where_the_schema_says_so() -> None:
    records: list[Record] = [b"{}", b'{"wave":null}', b'{"scan":null}', b'{"scan":{"image":null}}']
    assert verdicts(records) == [(None, None, None)] * 4
    rejecting = Schema.from_mapping({"name": "t", "features": [FEATURES[2] | {"missing": "reject"}]}, "tests")
    reason = ("missing_field", "wave is absent or null and the schema says missing = 'reject'")
    assert verdicts([b'{"wave":[1,2,3]}', b"{}"], Decoder(rejecting, 1000)) == [([1.0, 2.0, 3.0],), reason]


def test_no_detail_repeats_a_number_of_the_record() -> None:
    for image in ('["4711"]', "[4711,true,4711,4711]", "[[4711,1],[4711]]", "4711"):
        assert "4711" not in problem_of(image)[1]


ODD = st.sampled_from([None, True, "1", [], {}, [1, 2], [[1, 2], [3]], [None] * 4, [[]], 5])
FLAT = st.lists(NUMBERS, min_size=4, max_size=4)
NESTED = FLAT.map(lambda cells: [cells[:2], cells[2:]])
SPOILED = st.builds(
    lambda cells, place, odd: [*cells[:place], odd, *cells[place + 1 :]], FLAT | NESTED, st.integers(0, 4), ODD
)
WAVES = st.lists(NUMBERS, min_size=3, max_size=3) | st.none() | ODD
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "v": NUMBERS,
        "scan": st.fixed_dictionaries({}, optional={"image": FLAT | NESTED | SPOILED | st.none()}),
        "wave": WAVES,
        "other": NESTED,
    },
)
RECORDS = DOCUMENTS.map(lambda document: json.dumps(document).encode()) | st.sampled_from(
    [None, b"", b"{", b'{"c":"\\ud800"}', b'{"wave":\n[1,2,3]}', b'{"scan":7}', b'{"v":"x"}', b"[[1]]"]
)
SLOWISH = settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])


class Refused(ValueError):  # noqa: N818 - it is an answer of the oracle
    pass


def by_json(record: Record) -> tuple[Any, ...] | None:
    """What Python's json module makes of a record; None where it must be refused."""
    try:
        document = json.loads(record or b"")
        json.dumps(document, ensure_ascii=False).encode()
        scan = document.get("scan") if isinstance(document, dict) else "no object"
        if scan is not None and not isinstance(scan, dict):
            return None
        image, number = (scan or {}).get("image"), document.get("v")
        if isinstance(image, list) and image and isinstance(image[0], list):
            image = [cell for row in numbers(image, 2, list) for cell in numbers(row, 2)]
        value = None if number is None else float(numbers([number], 1)[0])
        return value, *(
            None if part is None else as_floats(part, n) for part, n in ((image, 4), (document.get("wave"), 3))
        )
    except ValueError:
        return None


def as_floats(value: object, n: int) -> list[float]:
    return list(map(float, numbers(value, n)))


def numbers(value: object, n: int, *types: type) -> list[Any]:
    """A list of so many numbers, or of other types."""
    if (
        not isinstance(value, list)
        or len(value) != n
        or not {type(part) for part in value} <= set(types or (int, float))
    ):
        raise Refused
    return value


@SLOWISH
@given(st.lists(RECORDS, max_size=8))
def test_a_record_is_judged_the_same_alone_and_beside_any_neighbours(records: list[Record]) -> None:
    assert verdicts(records) == [verdicts([record])[0] for record in records]


@SLOWISH
@given(RECORDS)
def test_the_native_reader_and_the_strict_one_agree_with_json(record: Record) -> None:
    (verdict,) = verdicts([record])
    expected = by_json(record)
    if expected is None:
        assert verdict[0] in InvalidRecord.REASONS
    else:
        assert verdict == expected


def written(path: Path, values: Sequence[Any]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"image": value}) + "\n" for value in values))
    else:
        pl.DataFrame({"image": values}, strict=False).write_parquet(path)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
@pytest.mark.parametrize("values", [[[1, 2, 3, 4], None, [5, 6, 7, 8]], [[[1, 2], [3, 4]], None, [[5, 6], [7, 8]]]])
def test_files_hold_arrays_nested_or_flat(tmp_path: Path, name: str, values: list[Any]) -> None:
    frame = read_features(written(tmp_path / name, values), IMAGES)
    assert frame.schema == {"image": pl.Array(pl.Float64, 4)}
    assert frame["image"].to_list() == [[1.0, 2.0, 3.0, 4.0], None, [5.0, 6.0, 7.0, 8.0]]
    assert read_features(tmp_path / name, IMAGES).equals(frame)


def test_a_parquet_column_of_numpy_s_own_shape_and_precision_is_read(tmp_path: Path) -> None:
    cells = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    pl.DataFrame({"image": cells}).write_parquet(tmp_path / "a.parquet")
    frame = read_features(tmp_path / "a.parquet", IMAGES)
    np.testing.assert_array_equal(frame["image"].to_numpy(), cells.reshape(3, 4).astype(np.float64))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0]], "row 2: [1.0, 2.0, 3.0] is not an array of finite numbers"),
        ([[1.0, 2.0, 3.0, None]], "row 1: [1.0, 2.0, 3.0, None] is not an array"),
        ([None, [1.0, 2.0, 3.0, float("nan")]], "row 2: [1.0, 2.0, 3.0, nan] is not an array"),
        ([[1.0, 2.0, 3.0, float("inf")]], "row 1: [1.0, 2.0, 3.0, inf] is not an array"),
        ([["1", "2", "3", "4"]], "row 1: ['1', '2', '3', '4'] is not an array"),
        ([[True, True, True, True]], "row 1: [True, True, True, True] is not an array"),
        (["[1,2,3,4]"], "row 1: '[1,2,3,4]' is not an array"),
        ([1.5], "row 1: 1.5 is not an array"),
    ],
)
def test_a_parquet_file_with_other_arrays_is_one_error_that_names_the_row(
    tmp_path: Path, values: list[Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match="write JSON lines or Parquet, with lists of numbers") as caught:
        read_features(written(tmp_path / "a.parquet", values), IMAGES)
    assert caught.value.problems[0].startswith(f"column 'image', {problem}")


def test_json_lines_with_another_array_are_one_error_that_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_features(written(tmp_path / "a.jsonl", [[1, 2, 3, 4], [[1, 2], [3, "4"]]]), IMAGES)
    (problem,) = caught.value.problems
    assert problem.startswith("line 2: Expected `float`, got `str` - at `image[1,1]`; write JSON lines or Parquet")


def test_a_csv_file_cannot_hold_arrays(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('image,x\n"[1,2,3,4]",1\n')
    with pytest.raises(ConfigError, match=r"'\[1,2,3,4\]' is not an array.*write JSON lines or Parquet"):
        read_features(tmp_path / "a.csv", IMAGES)


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_sample_keeps_the_shape_and_every_number(tmp_path: Path, name: str) -> None:
    values = [[[1.0], [2.5]], None, [[3.0], [4.0]]]
    column = read_sample(written(tmp_path / name, values), 10)["image"]
    assert column.to_list() == values
    assert shape_of(column.drop_nulls()) == (2, 1)


def test_whole_numbers_before_fractions_lose_nothing() -> None:
    column = from_objects("x", [[1, 2], [1.5, 2]])
    assert column is not None
    assert column.to_list() == [[1.0, 2.0], [1.5, 2.0]]


@pytest.mark.parametrize(
    "values",
    [
        [[1], [1, 2]],
        [["a"]],
        [[1, None]],
        [[]],
        [[True]],
        [[1, True]],
        [None],
        [],
        [[1], 2],
        [1, 2],
        [[10**400]],
        [[1, "2"]],
        [[[1], [2, 3]], [[1, 2], [3, 4]]],
    ],
)
def test_other_things_than_numbers_of_one_shape_are_no_column_of_arrays(values: list[Any]) -> None:
    assert from_objects("x", values) is None
