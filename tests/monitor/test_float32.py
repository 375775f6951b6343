"""Packed float32 records: the same verdicts and values as JSON records of the same numbers, and exact reasons for the others."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.encodings.float32 import Float32Decoder
from monitor.model.decode import Decoded, Decoder
from monitor.model.raw_values import RawValues
from monitor.model.schema import Schema

CATEGORIES = ("a", "5", "ü")
FEATURES = [
    {"name": "v", "kind": "numeric"},
    {"name": "c", "kind": "categorical"},
    {"name": "n.x", "kind": "numeric", "missing": "reject"},
    {"name": "n.b", "kind": "boolean"},
]
SCHEMA = Schema.from_mapping(
    {"name": "t", "features": FEATURES, "encoding": {"format": "float32", "codes": {"c": CATEGORIES}}}, "tests"
)
PACKED = Float32Decoder(SCHEMA)
JSON = Decoder(SCHEMA, max_record_bytes=1000)
NAN, INF = float("nan"), float("inf")
ROWS = st.tuples(
    st.floats(width=32) | st.just(NAN),
    st.sampled_from([0.0, 1.0, 2.0, 3.0, -1.0, 0.5, NAN, INF, -0.0, 1e30]),
    st.floats(width=32),
    st.sampled_from([0.0, 1.0, 2.0, -1.0, 0.5, NAN, INF, -0.0]),
)


def pack(*numbers: float) -> bytes:
    return np.array(numbers, dtype="<f4").tobytes()


def reason_of(value: bytes | None) -> tuple[str, str]:
    decoded = PACKED.decode([value])
    assert decoded.frame.height == 0
    ((row, reason),) = decoded.invalid
    assert row == 0
    return reason.reason, reason.detail


def as_json(row: tuple[float, ...]) -> bytes | None:
    """What the numbers of a record stand for; None where one stands for nothing."""
    v, c, x, b = row
    coded: dict[str, Any] = {}
    for name, number, values in (("c", c, CATEGORIES), ("b", b, (False, True))):
        if number in range(len(values)):
            coded[name] = values[int(number)]
        elif not math.isnan(number):
            return None
    if np.isinf([v, x]).any():
        return None
    numbers = {name: number for name, number in (("v", v), ("x", x)) if not math.isnan(number)}
    nested = {"x": numbers["x"]} if "x" in numbers else {}
    document = {"v": numbers.get("v"), "c": coded.get("c"), "n": nested | {"b": coded.get("b")}}
    return json.dumps(document).encode()


@settings(deadline=None, max_examples=100)
@given(st.lists(ROWS, max_size=8))
def test_packed_records_are_accepted_with_the_values_that_their_json_has(rows: list[tuple[float, ...]]) -> None:
    packed = PACKED.decode([pack(*row) for row in rows])
    as_text = JSON.decode([as_json(row) for row in rows])
    assert list(packed.rows) == list(as_text.rows)
    assert packed.frame.equals(as_text.frame)
    assert packed.frame.schema == as_text.frame.schema
    missing = [row for row, reason in packed.invalid if reason.reason == "missing_field"]
    assert missing == [row for row, reason in as_text.invalid if reason.reason == "missing_field"]


@settings(deadline=None, max_examples=100)
@given(st.lists(ROWS | st.binary(max_size=20), max_size=8))
def test_a_packed_record_is_judged_the_same_alone_and_beside_any_neighbours(rows: list[Any]) -> None:
    values = [row if isinstance(row, bytes) else pack(*row) for row in rows]
    together = PACKED.decode(values)
    alone = [PACKED.decode([value]) for value in values]
    assert together.frame.equals(pl.concat([PACKED.decode([]).frame, *(one.frame for one in alone)]))
    assert [(row, str(reason)) for row, reason in together.invalid] == [
        (row, str(one.invalid[0][1])) for row, one in enumerate(alone) if one.invalid
    ]


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, "empty", "no value (null)"),
        (b"", "empty", "0 bytes"),
        (b'{"v": 1}', "wrong_encoding", "8 bytes, expected 16: a float32 for each feature"),
        (pack(1, 0, 1, 0, 1), "wrong_encoding", "20 bytes, expected 16: a float32 for each feature"),
        (pack(INF, 0, 1, 0), "wrong_type", "Expected a finite number or NaN, got inf - at `v`"),
        (pack(1, 3, 1, 0), "wrong_type", "Expected one of the codes 0 to 2 or NaN, got 3 - at `c`"),
        (pack(1, 0, -INF, 2), "wrong_type", "Expected a finite number or NaN, got -inf - at `n.x`"),
        (pack(1, 0, 1, 0.5), "wrong_type", "Expected 0, 1 or NaN, got 0.5 - at `n.b`"),
        (pack(1, 0, NAN, 0), "missing_field", "n.x is NaN and the schema says missing = 'reject'"),
    ],
)
def test_every_bad_packed_record_has_its_reason(value: bytes | None, reason: str, detail: str) -> None:
    assert reason_of(value) == (reason, detail)


def test_bad_records_in_a_large_batch_move_no_value_to_another_place() -> None:
    values: list[bytes | None] = [pack(row, row % 3, row, row % 2) for row in range(5000)]
    for row, bad in ((0, None), (17, b"x"), (2048, pack(1, 9, 1, 1)), (4999, pack(INF, 0, 0, 0))):
        values[row] = bad
    decoded = PACKED.decode(values)
    assert [row for row, _ in decoded.invalid] == [0, 17, 2048, 4999]
    assert decoded.frame["v"].to_list() == list(map(float, decoded.rows))
    assert decoded.frame["c"].to_list() == [CATEGORIES[row % 3] for row in decoded.rows]


def test_values_that_do_not_lie_side_by_side_are_found_where_they_are() -> None:
    buffer = b"?" + pack(1, 0, 2, 1) + b"key" + pack(3, 1, 4, 0)
    values = RawValues(buffer, np.array([1, 20]), np.array([17, 36]))
    assert PACKED.decode(values).frame["n.x"].to_list() == [2.0, 4.0]


def documents(decoded: Decoded) -> list[Any]:
    return [None if document is None else json.loads(document) for document in decoded.documents]


def test_a_packed_record_as_a_document_is_an_object_of_its_features() -> None:
    decoded = PACKED.decode([pack(1.5, 2, 3, 1), b"bad", pack(NAN, NAN, 4, NAN)])
    assert documents(decoded) == [{"v": 1.5, "c": "ü", "n": {"x": 3.0, "b": True}}, None, {"n": {"x": 4.0}}]


def test_a_schema_without_categories_needs_no_codes() -> None:
    plain = Schema.from_mapping(
        {"name": "t", "features": [{"name": "v", "kind": "numeric"}], "encoding": {"format": "float32"}}, "tests"
    )
    assert Float32Decoder(plain).decode([pack(1), pack(NAN)]).frame["v"].to_list() == [1.0, None]


ARRAYS = Schema.from_mapping(
    {
        "name": "t",
        "features": [
            {"name": "v", "kind": "numeric"},
            {"name": "image", "kind": "array", "shape": [2, 2], "missing": "reject"},
            {"name": "b", "kind": "boolean"},
            {"name": "wave", "kind": "array", "shape": [2]},
        ],
        "encoding": {"format": "float32"},
    },
    "tests",
)


def test_an_array_takes_a_number_for_each_cell_row_by_row() -> None:
    decoded = Float32Decoder(ARRAYS).decode([pack(1, 2, 3, 4, 5, 1, 6, 7), pack(NAN, 8, 9, 10, 11, NAN, NAN, NAN)])
    assert decoded.frame.rows() == [
        (1.0, [2.0, 3.0, 4.0, 5.0], True, [6.0, 7.0]),
        (None, [8.0, 9.0, 10.0, 11.0], None, None),
    ]
    assert decoded.frame.schema == Decoder(ARRAYS, 1000).decode([]).frame.schema
    first = {"v": 1.0, "image": [2.0, 3.0, 4.0, 5.0], "b": True, "wave": [6.0, 7.0]}
    assert documents(decoded) == [first, {"image": [8.0, 9.0, 10.0, 11.0]}]
    as_json = [document for document in decoded.documents if document is not None]
    assert Decoder(ARRAYS, 1000).decode(as_json).frame.equals(decoded.frame)


@pytest.mark.parametrize(
    ("numbers", "reason", "detail"),
    [
        (
            (1, 2, 3, INF, 5, 1, 6, 7),
            "wrong_type",
            "Expected finite numbers or nothing but NaN, got inf - at `image[1,0]`",
        ),
        (
            (1, 2, NAN, 4, 5, 1, 6, 7),
            "wrong_type",
            "Expected finite numbers or nothing but NaN, got nan - at `image[0,1]`",
        ),
        (
            (1, 2, 3, 4, 5, 1, 6, NAN),
            "wrong_type",
            "Expected finite numbers or nothing but NaN, got nan - at `wave[1]`",
        ),
        ((1, 2, 3, 4, 5, 2, 6, 7), "wrong_type", "Expected 0, 1 or NaN, got 2 - at `b`"),
        ((1, *[NAN] * 4, 1, 6, 7), "missing_field", "image is NaN and the schema says missing = 'reject'"),
        ((1, 2, 3, 4), "wrong_encoding", "16 bytes, expected 32: a float32 for each feature"),
    ],
)
def test_an_array_that_lacks_numbers_is_refused_with_the_place(
    numbers: tuple[float, ...], reason: str, detail: str
) -> None:
    (invalid,) = Float32Decoder(ARRAYS).decode([pack(*numbers)]).invalid
    assert (invalid[1].reason, invalid[1].detail) == (reason, detail)
