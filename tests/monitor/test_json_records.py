"""Raw records of a topic as a table."""

from __future__ import annotations

import polars as pl

from monitor.model.json_records import frame_from_records


def test_broken_records_of_a_topic_are_skipped_and_the_others_keep_their_values() -> None:
    records = [
        b'{"a": 1, "b": {"c": "x", "d": [1, 2]}}',
        None,
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"a": 2.5, "b": {}, "e.f": true}',
    ]
    frame = frame_from_records(records)
    assert frame.to_dict(as_series=False) == {
        "a": [1.0, 2.5],
        "b.c": ["x", None],
        "b.d": [[1, 2], None],
        "e..f": [None, True],
    }
    assert len(records) - frame.height == 5


def test_values_of_different_types_are_kept_apart() -> None:
    frame = frame_from_records([b'{"a": 1}', b'{"a": "x"}', b'{"a": true}', b'{"a": ' + b"9" * 400 + b"}"])
    assert frame.schema == {"a": pl.Object}
    assert frame["a"].to_list()[:3] == [1, "x", True]
