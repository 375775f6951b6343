"""Dead letters: the record unchanged, with where it stood and why in the headers."""

from __future__ import annotations

import hashlib

import pytest

from monitor.errors import InvalidRecord
from monitor.stream.dead_letters import dead_letter
from tests.monitor.records import record

REASON = InvalidRecord("not_json", "Input data was truncated")


def test_value_and_key_are_unchanged_and_the_headers_say_where_and_why() -> None:
    message = dead_letter(record(b'{"a":\xff', 41, partition=3, key=b"\x00k"), REASON, "dead-letters")
    assert (message.topic, message.key, message.value, message.lane) == ("dead-letters", b"\x00k", b'{"a":\xff', 3)
    assert message.headers == (
        ("topic", b"features"),
        ("partition", b"3"),
        ("offset", b"41"),
        ("timestamp", b"1772366400123"),
        ("reason", b"not_json"),
        ("detail", b"Input data was truncated"),
    )


def test_a_record_without_value_is_told_from_an_empty_one() -> None:
    null, empty = (dead_letter(record(value), REASON, "d") for value in (None, b""))
    assert null.value == empty.value == b""
    assert ("null_value", b"true") in null.headers
    assert "null_value" not in dict(empty.headers)


def test_the_record_s_own_headers_are_kept_under_another_name() -> None:
    own = [("reason", b"mine"), ("trace", b"\xff"), ("empty", None)]
    headers = dead_letter(record(b"x", headers=own), REASON, "d").headers
    assert headers[-2:] == (("original.reason", b"mine"), ("original.trace", b"\xff"))
    assert dict(headers)["reason"] == b"not_json"


@pytest.mark.parametrize("value", [b"y" * 5_000_000, b"", None])
def test_one_too_large_for_the_topic_keeps_size_and_hash_in_place_of_the_value(value: bytes | None) -> None:
    own = [("large", b"z" * 1_000_000)]
    message = dead_letter(record(value, 7, key=b"k" * 1_000_000, headers=own), REASON, "d")
    assert message.shrink is not None
    smaller = message.shrink(message)
    assert (smaller.topic, smaller.key, smaller.value, smaller.lane, smaller.shrink) == ("d", None, b"", 0, None)
    headers = dict(smaller.headers)
    assert headers["truncated"] == b"true"
    assert headers["size"] == str(len(value or b"")).encode()
    assert headers["sha256"] == hashlib.sha256(value or b"").hexdigest().encode()
    assert headers["offset"] == b"7"
    assert sum(len(content) for content in headers.values()) < 1000


def test_a_detail_that_is_no_text_can_still_be_sent() -> None:
    detail = dict(dead_letter(record(b"x"), InvalidRecord("not_json", "lone \ud800"), "d").headers)["detail"]
    assert detail == b"lone ?"
