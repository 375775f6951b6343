"""Decoding: a record's verdict and values depend on the record alone, and equal what the strict decoder and `json` make of it."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from monitor.errors import InvalidRecord
from monitor.model.decode import Decoder
from monitor.model.schema import Schema
from tests.monitor.raw_records import (
    KINDS,
    PAIRED,
    POISON,
    RECORDS,
    SPLICED,
    TRUNCATED,
    WRITTEN,
    WRONG_TYPES,
    Record,
    by_json,
    value_of,
)

SCHEMA = Schema.from_mapping(
    {"name": "t", "features": [{"name": name, "kind": kind} for name, kind in KINDS.items()]}, "tests"
)
DECODER = Decoder(SCHEMA, max_record_bytes=20_000, levels={"c": ("a", "5", "true", "[1]", "1e22"), "n.k": ()})


def of_feature(kind: str, missing: str = "impute", name: str = "v", **options: Any) -> Decoder:
    features = [{"name": name, "kind": kind, "missing": missing}]
    return Decoder(Schema.from_mapping({"name": "t", "features": features}, "tests"), 1000, **options)


def verdicts(decoder: Decoder, records: Sequence[Record]) -> list[Any]:
    """Per record its row of values, or its reason and detail; fails when a record has none or two."""
    decoded = decoder.decode(records)
    assert list(decoded.rows) == sorted(decoded.rows)
    assert [row for row, _ in decoded.invalid] == sorted(row for row, _ in decoded.invalid)
    assert tuple(decoded.frame.columns) == decoder.schema.feature_names
    good = dict(zip(decoded.rows, decoded.frame.rows(), strict=True))
    bad = {row: (error.reason, error.detail) for row, error in decoded.invalid}
    assert sorted([*good, *bad]) == list(range(len(records)))
    return [good[row] if row in good else bad[row] for row in range(len(records))]


def alone(record: Record, decoder: Decoder = DECODER) -> Any:
    return verdicts(decoder, [record])[0]


def reason_of(record: Record, decoder: Decoder = DECODER) -> str:
    decoded = decoder.decode([record])
    assert decoded.frame.height == 0
    return decoded.invalid[0][1].reason


class Nested(msgspec.Struct):
    x: float | None = None
    k: str | int | bool | None = None


class Strict(msgspec.Struct):
    v: float | None = None
    c: str | int | bool | None = None
    b: bool | None = None
    n: Nested | None = None


SLOWISH = settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])


@SLOWISH
@given(st.lists(RECORDS, max_size=12))
def test_a_record_is_judged_the_same_alone_and_beside_any_neighbours(records: list[Record]) -> None:
    assert verdicts(DECODER, records) == [alone(record) for record in records]


@pytest.mark.parametrize("poison", [None, b" ", b"{}{}", b'{"v":"x"}', b'{"c":"a\nb"}', b"[" * 3000, b"\xff"])
def test_every_poison_next_to_this_one_is_judged_as_when_alone(poison: Record) -> None:
    for other in POISON:
        assert verdicts(DECODER, [poison, other, poison]) == [alone(poison), alone(other), alone(poison)]


def test_a_bad_record_anywhere_in_a_large_batch_moves_no_value_to_another_place() -> None:
    records: list[Record] = [b'{"v":%d,"c":"zz%d"}' % (row, row) for row in range(5000)]
    for row in (0, 1, 2047, 2048, 4999):
        records[row] = b'{"v":1} {"v":2}'
    records[3000] = b" "
    decoded = DECODER.decode(records)
    assert [row for row, _ in decoded.invalid] == [0, 1, 2047, 2048, 3000, 4999]
    assert decoded.frame["v"].to_list() == list(map(float, decoded.rows))
    assert decoded.frame["c"].to_list() == [f"zz{row}" for row in decoded.rows]


@SLOWISH
@given(RECORDS)
def test_what_is_accepted_has_the_values_that_json_gives(record: Record) -> None:
    verdict = alone(record)
    if len(verdict) == len(KINDS):
        assert verdict == by_json(record)
    else:
        assert verdict[0] in InvalidRecord.REASONS


@SLOWISH
@given(WRITTEN | TRUNCATED | PAIRED | SPLICED | WRONG_TYPES)
def test_what_json_accepts_and_fits_the_schema_is_accepted(record: bytes) -> None:
    expected = by_json(record)
    verdict = alone(record)
    keys = [key for key, _ in json.loads(record, object_pairs_hook=list)] if expected is not None else []
    if expected is not None and len(set(keys)) == len(keys):
        assert verdict == expected


@SLOWISH
@given(WRITTEN)
def test_values_equal_those_of_the_strict_decoder(record: bytes) -> None:
    try:
        strict = msgspec.json.decode(record, type=Strict)
    except msgspec.ValidationError:  # a category written as 5.0, which this plain type refuses
        return
    nested = strict.n or Nested()
    values = [strict.v, strict.c, strict.b, nested.x, nested.k]
    assert alone(record) == tuple(value_of(value, kind) for value, kind in zip(values, KINDS.values(), strict=True))


@settings(deadline=None, max_examples=200)
@given(
    st.from_regex(
        r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True, alphabet=string.printable
    )
)
@example("2.2250738585072011e-308")
@example("9007199254740993")
@example("123456789012345678e-20")
@example("0.1000000000000000055511151231257827021181583404541015625")
@example("1.7976931348623159e308")
def test_a_number_of_any_length_is_the_nearest_float64(digits: str) -> None:
    expected = float(digits)
    verdict = alone(b'{"v":%s}' % digits.encode())
    if math.isfinite(expected):
        assert math.copysign(1, verdict[0]) == math.copysign(1, expected) or expected == 0
        assert verdict[0] == expected
    else:
        assert verdict[0] == "wrong_type"


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        (None, "empty", "no value (null)"),
        (b"", "empty", "0 bytes, all blank"),
        (b" \r\n", "empty", "3 bytes, all blank"),
        (b"\xff{}", "not_utf8", "byte 0xff at 0"),
        (b'{"c":"\xe9t\xe9"}', "not_utf8", "byte 0xe9 at 6"),
        (b'{"c":\n"\xe9t\xe9"}', "not_utf8", "byte 0xe9 at 7"),
        (b'{"v":1', "not_json", "Input data was truncated"),
        (b'{"v":1} {"v":2}', "not_json", "JSON is malformed: trailing characters (byte 9)"),
        (b'{"v":NaN}', "not_json", "JSON is malformed: invalid character (byte 5)"),
        (b'{"c":"a\nb"}', "not_json", "JSON is malformed: invalid character (byte 7)"),
        (b"[1]", "not_one_object", "Expected `object`, got `array`"),
        (b"null", "not_one_object", "Expected `object`, got `null`"),
        (b'{"v":"1"}', "wrong_type", "Expected `float | null`, got `str` - at `v`"),
        (b'{"v":1e400}', "wrong_type", "Number out of range - at `v`"),
        (b'{"n":7}', "wrong_type", "Expected `object | null`, got `int` - at `n`"),
        (b'{"n":{"x":[]}}', "wrong_type", "Expected `float | null`, got `array` - at `n.x`"),
    ],
)
def test_the_reason_says_what_is_wrong(record: Record, reason: str, detail: str) -> None:
    assert alone(record) == (reason, detail)


def test_a_detail_is_short_however_long_the_record_is() -> None:
    name = "f" * 500
    (_, detail) = alone(b'{"%s":"x"}' % name.encode(), of_feature("numeric", name=name))
    assert len(detail) == 200
    assert detail.endswith("…")


def test_no_detail_repeats_a_value_of_the_record() -> None:
    for poison in (
        b'{"v":"4111-secret"}',
        b'{"b":"4111-secret"}',
        b'{"c":["4111-secret"]}',
        b'{"v":1,"c":"4111-secret"',
    ):
        assert "secret" not in alone(poison)[1]


def test_absent_null_and_extra_fields_are_no_fault() -> None:
    nothing = (None,) * len(KINDS)
    assert verdicts(DECODER, [b"{}", b'{"v":null,"n":null}', b'{"w":[1,{"v":2}]}', b'{"n.x":1}']) == [nothing] * 4


@pytest.mark.parametrize("record", [b"{}", b'{"v":null}', b'{"w":1}'])
def test_a_missing_value_is_refused_where_the_schema_rejects_it(record: bytes) -> None:
    rejecting = of_feature("numeric", missing="reject")
    expected = ("missing_field", "v is absent or null and the schema says missing = 'reject'")
    assert verdicts(rejecting, [b'{"v":0}', record, b'{"v":2}']) == [(0.0,), expected, (2.0,)]


def test_a_rejected_missing_value_may_lie_in_a_nested_object() -> None:
    rejecting = of_feature("boolean", missing="reject", name="a.b.c")
    records: list[Record] = [b'{"a":{"b":{"c":true}}}', b'{"a":{"b":{}}}', b'{"a":null}', b"{}"]
    assert [verdict[0] for verdict in verdicts(rejecting, records)] == [True, *["missing_field"] * 3]


def test_a_record_of_max_record_bytes_is_read_and_one_byte_more_is_not() -> None:
    record = b'{"v":1}' + b" " * 993
    decoder = of_feature("numeric")
    assert verdicts(decoder, [record, record + b" "]) == [
        (1.0,),
        ("too_large", "1001 bytes, max_record_bytes is 1000"),
    ]


@pytest.mark.parametrize("levels", [(), ("1", "1000", "a"), ("1.5", "[1]", "-7", "true")])
def test_a_category_is_read_the_same_whatever_levels_are_known(levels: tuple[str, ...]) -> None:
    decoder = of_feature("categorical", levels={"v": levels})
    tokens = ['"a"', "1", "1.0", "1e3", "-7", "-7.0", "true", '"true"', "null", '"[1]"', "1.5", "[1]", "{}", "1e22"]
    found = [alone(b'{"v":%s}' % token.encode(), decoder)[0] for token in tokens]
    assert found == ["a", "1", "1", "1000", "-7", "-7", "true", "true", None, "[1]", *["wrong_type"] * 4]


@pytest.mark.parametrize("digits", ["10000000000000000000000", "9007199254740994", "1" * 38])
def test_a_long_serial_number_as_category_keeps_all_its_digits_and_no_float_passes_for_it(digits: str) -> None:
    decoder = of_feature("categorical", levels={"v": (digits,)})
    assert alone(b'{"v":%s}' % digits.encode(), decoder) == (digits,)
    assert reason_of(b'{"v":1e22}', decoder) == "wrong_type"


@pytest.mark.parametrize("token", [b"1" * 50, b"1e400"])
def test_a_number_too_large_to_be_read_is_refused_even_in_a_field_that_is_no_feature(token: bytes) -> None:
    expected = ("not_json", "a number is beyond 1e308 or a whole number beyond 128 bits, or objects nest too deep")
    assert alone(b'{"z":%s}' % token) == expected


def test_the_first_of_equal_keys_counts() -> None:
    assert alone(b'{"v":1,"v":2,"n":{"x":3},"n":{"x":4}}') == (1.0, None, None, 3.0, None)


def test_escaped_text_is_unescaped_in_keys_and_values() -> None:
    assert alone(b'{"\\u0076":7,"c":"\\u00e9\\ud83d\\ude00\\n\\/"}') == (7.0, "é😀\n/", None, None, None)


@pytest.mark.parametrize(
    "name",
    ["a b", "größe", "日本", "class", "None", "field_0", "__init__", "$", "a`b", "0", "x\u2028y", "😀",
     "untrusted", "a/b", "self", "literal", "'"],
)  # fmt: skip
def test_a_field_may_bear_any_name(name: str) -> None:
    record = json.dumps({name: 1.5, "outer": {name: "x"}}).encode()
    raw = json.dumps({name: 1.5, "outer": {name: "x"}}, ensure_ascii=False).encode()
    features = [{"name": name, "kind": "numeric"}, {"name": f"outer.{name}", "kind": "categorical"}]
    decoder = Decoder(Schema.from_mapping({"name": "t", "features": features}, "tests"), 1000)
    bad = json.dumps({name: []}).encode()
    assert verdicts(decoder, [record, bad, raw])[::2] == [(1.5, "x")] * 2
    assert alone(bad, decoder) == ("wrong_type", f"Expected `float | null`, got `array` - at `{name}`")


def test_nested_objects_are_reached_at_any_depth_beside_plain_fields() -> None:
    names = ["a.b.c", "a.b.d", "a.e", "f"]
    features = [{"name": name, "kind": "numeric"} for name in names]
    decoder = Decoder(Schema.from_mapping({"name": "t", "features": features}, "tests"), 1000)
    records: list[Record] = [b'{"a":{"b":{"c":1,"d":2},"e":3},"f":4}', b'{"f":4,"a":{"e":3}}', b'{"a":{"b":7}}']
    assert verdicts(decoder, records)[:2] == [(1.0, 2.0, 3.0, 4.0), (None, None, 3.0, 4.0)]
    assert reason_of(records[2], decoder) == "wrong_type"


def test_nesting_beyond_a_thousand_levels_is_refused_and_ends_nothing() -> None:
    deep = b'{"z":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    decoder = Decoder(SCHEMA, max_record_bytes=1_000_000)
    assert reason_of(deep, decoder) == "not_json"
    assert reason_of(b'{"z":' * 100_000, decoder) == "not_json"


def test_an_empty_batch_gives_an_empty_frame_of_the_right_types() -> None:
    frame = DECODER.decode([]).frame
    assert frame.height == 0
    assert list(map(str, frame.dtypes)) == ["Float64", "String", "Boolean", "Float64", "String"]


def test_a_batch_of_nothing_but_poison_gives_a_frame_of_the_same_types() -> None:
    decoded = DECODER.decode([b"{", None, b"[]"])
    assert decoded.frame.schema == DECODER.decode([b"{}"]).frame.schema
    assert [error.reason for _, error in decoded.invalid] == ["not_json", "empty", "not_one_object"]
