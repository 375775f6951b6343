"""Raw records of every kind, good and poisonous, and what Python's json module makes of them."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import strategies as st

Record = bytes | None

# The features that the records are about.
KINDS = {"v": "numeric", "c": "categorical", "b": "boolean", "n.x": "numeric", "n.k": "categorical"}


class Refused(Exception):  # noqa: N818 - it is an answer of the oracle
    pass


def _refuse(*_: object) -> Any:
    raise Refused


def _checked(value: Any) -> Any:
    """Refuses infinite numbers and lone surrogates anywhere in a parsed document."""
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused
    if isinstance(value, str):
        value.encode()
    for part in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ():
        _checked(part)
    return value


def value_of(node: Any, kind: str) -> Any:
    """What a JSON value is as a feature of a kind."""
    if node is None:
        return None
    if kind == "boolean":
        return node if isinstance(node, bool) else _refuse()
    if kind == "numeric":
        return float(node) if isinstance(node, int | float) and not isinstance(node, bool) else _refuse()
    if isinstance(node, float):
        return format(node, ".0f") if node.is_integer() and abs(node) <= 2**53 else _refuse()
    return json.dumps(node) if isinstance(node, bool | int) else node if isinstance(node, str) else _refuse()


def by_json(record: Record) -> tuple[Any, ...] | None:
    """The row that Python's json module gives, the first of equal keys counting; None where it must be refused."""
    try:
        document = json.loads(
            (record or b"").decode(), parse_constant=_refuse, object_pairs_hook=lambda pairs: dict(reversed(pairs))
        )
        _checked(document)
        nested = document.get("n") if isinstance(document, dict) else _refuse()
        if nested is not None and not isinstance(nested, dict):
            _refuse()
        nested = nested or {}
        nodes = [document.get("v"), document.get("c"), document.get("b"), nested.get("x"), nested.get("k")]
        return tuple(value_of(node, kind) for node, kind in zip(nodes, KINDS.values(), strict=True))
    except (ValueError, Refused, OverflowError):
        return None


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(["a", "5", "true", "[1]", "zz"])
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.integers(-(10**30), 10**30)
WHOLE = st.integers(-(2**40), 2**40)
CATEGORIES = TEXTS | WHOLE | st.booleans() | WHOLE.map(float).filter(bool)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "v": NUMBERS | st.none(),
    "c": CATEGORIES | st.none(),
    "b": st.booleans() | st.none(),
    "n": st.none() | st.fixed_dictionaries({}, optional={"x": NUMBERS, "k": CATEGORIES, "other": TEXTS}),
    "extra": st.recursive(TEXTS | NUMBERS | st.booleans(), lambda inner: st.lists(inner, max_size=3), max_leaves=4),
}
DOCUMENTS = st.fixed_dictionaries({}, optional=FIELDS)
WRITTEN = st.builds(
    lambda document, indent, ascii_only: json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode(),
    DOCUMENTS,
    st.sampled_from([None, None, None, 1]),
    st.booleans(),
)
WRONG_TYPES = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from([[], {}, "1", True, 1.5, [1], {"x": "y"}, 7]) for name in ("v", "c", "b", "n")}
).map(lambda document: json.dumps(document).encode())
TRUNCATED = st.builds(lambda record, cut: record[: cut % len(record)], WRITTEN, st.integers(0, 500))
PAIRED = st.builds(
    lambda one, glue, other: one + glue + other, WRITTEN, st.sampled_from([b"", b" ", b"\n", b","]), WRITTEN
)
SPLICED = st.builds(
    lambda record, place, inserted: record[: place % len(record)] + inserted + record[place % len(record) :],
    WRITTEN,
    st.integers(0, 500),
    st.sampled_from([b"\n", b"\r", b"\t", b"\x00", b"\xff", b"\\u", b"\\ud800", b'"', b"{", b"\xef\xbb\xbf", b" "]),
)
POISON: list[Record] = [
    None, b"", b" ", b"\n", b"\r", b"\t\r\n", b"\x0b", b"\x00", b"\xff", b"\xef\xbb\xbf{}",
    b"{", b"}", b"null", b"1", b'"a"', b"true", b"[]", b"[{}]", b'[{"v":1},{"v":2}]', b"{}{}", b"{} {}", b"{}\n{}", b"{},{}",
    b'{"v":1', b'{"v":1}x', b'{"v":1,}', b'{"v"}', b"{'v':1}", b"{v:1}", b'{"v":}', b'{"v":01}', b'{"v":1.}', b'{"v":+1}',
    b'{"v":.5}', b'{"v":-}', b'{"v":tru}', b"# {}", b'{"v":/**/1}',
    b'{"v":NaN}', b'{"v":Infinity}', b'{"v":-Infinity}', b'{"z":NaN}', b'{"v":1e308}', b'{"v":-1e308}', b'{"v":1e400}',
    b'{"z":1e400}', b'{"v":1e-400}', b'{"c":1e22}', b'{"c":1e3}', b'{"c":1.5}', b'{"c":5.0}', b'{"c":[1]}', b'{"c":{"a":1}}',
    b'{"c":"[1]"}', b'{"c":12345678901234567890123}', b'{"v":"1"}', b'{"v":true}', b'{"b":1}', b'{"b":"true"}', b'{"n":1}',
    b'{"n":[]}', b'{"n":{"x":"1"}}', b'{"n":{}}', b'{"n":null}', b'{"n.x":1}',
    b'{"c":"a\nb"}', b'{"z":"a\nb"}', b'{"v":\n1}\n', b'{\n "c": "zz"\n}', b'{"c":\n"\xff"}',
    b'{"c":"\\ud800"}', b'{"z":"\\ud800"}', b'{"\\ud800":1}', b'{"c":"\\ud83d\\ude00"}', b'{"c":"\\udc00"}', b'{"\\u0076":7}',
    b'{"c":"\xed\xa0\x80"}', b'{"z":"\xc0\x80"}', b'{"c":"\\x"}', b'{"c":"\t"}', b'{"c":"\\u00"}', b'{"c":"\\u0000"}',
    b'{"v":1,"v":2}', b'{"v":null,"v":2}', b'{"n":{"x":1},"n":{"x":2}}', b'{"c":"a","c":1.5}', b'{"c":1.5,"c":"a"}',
    b'{"c":"zz","c":1.5}', b'{"v":"x","v":1}', b'{"\\u0076":7,"v":8}',
    b'{"z":' + b"[" * 300 + b"]" * 300 + b"}", b'{"z":' + b"[" * 3000 + b"]" * 3000 + b"}", b"[" * 3000, b'{"z":' * 3000,
    b'{"c":"' + b"y" * 30_000 + b'"}', b"y" * 30_000,
]  # fmt: skip
RECORDS = WRITTEN | st.sampled_from(POISON) | TRUNCATED | PAIRED | SPLICED | WRONG_TYPES | st.binary(max_size=30)
