"""The alert document: valid by its own JSON Schema, of one id however often it is sent, with the record's own words."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from jsonschema import Draft202012Validator

from monitor.alerting.alert import (
    FORMAT,
    AlertWriter,
    Flagged,
    ModelReference,
    alert_id,
    alert_schema,
    severity_of,
    without_payload,
)
from monitor.model.attribution import Attribution, attribute
from monitor.model.bundle import Bundle
from monitor.model.fitted_columns import ArrayColumn, NumericColumn
from monitor.model.preprocess import Preprocessor
from monitor.model.scorer import Explanation
from monitor.stream.broker import Cluster
from tests.machines import readings
from tests.monitor.records import record

CLUSTER = Cluster(id="kX", topic_id="tY")
NOW = datetime(2026, 3, 1, 13, 0, 1, 5000, tzinfo=timezone(timedelta(hours=1)))
WHY = [Attribution("load", 0.5, 0.25, 0.75), Attribution("mode", None, "drill", 0.25)]
WRITER = AlertWriter(
    cluster=CLUSTER,
    model=ModelReference("machines", "20260101T000000Z-00000000", "ab" * 32),
    threshold=49.996,
    with_payload=True,
    id_path="meta.id",
    event_time_path="at",
    key_path="machine",
)


def written(
    value: bytes, *, writer: AlertWriter = WRITER, score: float = 61.2345, **record_fields: Any
) -> dict[str, Any]:
    """The document of one flagged record, checked against the schema."""
    flagged = Flagged([record(value, **record_fields)], [score], [1e-4], [7.5], [WHY], [["mode"]])
    (alert,) = writer.write(flagged, detected_at=NOW)
    document: dict[str, Any] = json.loads(alert.to_json())
    Draft202012Validator(alert_schema(), format_checker=Draft202012Validator.FORMAT_CHECKER).validate(document)
    return document


def changed(**fields: Any) -> AlertWriter:
    return replace(WRITER, **fields)


def test_the_whole_document() -> None:
    assert written(b'{"meta":{"id":"r1"},"at":"2026-03-01","machine":"m7","x":1.0}', offset=41, partition=3) == {
        "format": "ganwatch.alert/1",
        "id": hashlib.sha256(b"kX\x00features\x00tY\x003\x0041").hexdigest()[:32],
        "detected_at": "2026-03-01T12:00:01.005Z",
        "record": {
            "topic": "features",
            "partition": 3,
            "offset": 41,
            "timestamp": "2026-03-01T12:00:00.123Z",
            "key": "m7",
            "id": "r1",
            "event_time": "2026-03-01",
        },
        "score": 61.23,
        "p_value": 1e-4,
        "raw_score": 7.5,
        "threshold": 50.0,
        "severity": "medium",
        "model": {"name": "machines", "version": "20260101T000000Z-00000000", "sha256": "ab" * 32},
        "attribution": [
            {"feature": "load", "value": 0.5, "expected": 0.25, "share": 0.75},
            {"feature": "mode", "value": None, "expected": "drill", "share": 0.25},
        ],
        "imputed": ["mode"],
        "replay": False,
        "payload": {"meta": {"id": "r1"}, "at": "2026-03-01", "machine": "m7", "x": 1.0},
    }


def test_the_schema_is_itself_valid_and_allows_nothing_else() -> None:
    Draft202012Validator.check_schema(alert_schema())
    document = written(b"{}")
    validator = Draft202012Validator(alert_schema())
    for path in ((), ("record",), ("model",)):
        broken = json.loads(json.dumps(document))
        node = broken
        for part in path:
            node = node[part]
        node["more"] = 1
        assert not validator.is_valid(broken)
    assert document["format"] == FORMAT == alert_schema()["$id"]


@pytest.mark.parametrize(
    ("score", "severity"),
    [(0.0, "low"), (49.999, "low"), (50.0, "medium"), (74.999, "medium"), (75.0, "high"), (89.999, "high"), (90.0, "critical"),
     (100.0, "critical")],
)  # fmt: skip
def test_severity_follows_the_score(score: float, severity: str) -> None:
    assert severity_of(score) == severity
    assert written(b"{}", score=score)["severity"] == severity


def test_an_alert_s_id_depends_on_the_record_s_place_alone() -> None:
    place = ("features", 3, 41)
    ids = {
        alert_id(CLUSTER, *place),
        alert_id(Cluster("other", "tY"), *place),
        alert_id(Cluster("kX", "recreated"), *place),
        alert_id(CLUSTER, "features2", 3, 41),
        alert_id(CLUSTER, "features", 4, 41),
        alert_id(CLUSTER, "features", 34, 1),
    }
    assert len(ids) == 6
    assert written(b"{}", offset=41, partition=3)["id"] == alert_id(CLUSTER, *place)
    other_model = changed(model=ModelReference("m", "v", "cd" * 32), threshold=1.0)
    assert written(b'{"x":1}', writer=other_model, offset=41, partition=3)["id"] == alert_id(CLUSTER, *place)


def test_the_kafka_key_comes_before_the_key_field() -> None:
    assert written(b'{"machine":"m7"}', key=b"k1")["record"]["key"] == "k1"
    assert written(b'{"machine":"m7"}', key=b"")["record"]["key"] == ""
    assert written(b'{"machine":7}')["record"]["key"] == "7"
    assert written(b"{}", key=b"\xff\x00")["record"]["key"] == "\ufffd\x00"
    assert written(b"{}")["record"]["key"] is None


@pytest.mark.parametrize(
    "value", [b"{}", b'{"meta":7,"at":[1]}', b'{"meta":{"id":{}},"at":null}', b'{"meta":{"id":null}}']
)
def test_bookkeeping_fields_that_are_absent_or_no_scalars_are_null(value: bytes) -> None:
    reference = written(value)["record"]
    assert (reference["id"], reference["event_time"], reference["key"]) == (None, None, None)


@pytest.mark.parametrize("number", [0, -7, 12345678901234567890, 1.5, True])
def test_an_id_may_be_a_number(number: float) -> None:
    assert written(json.dumps({"meta": {"id": number}}).encode())["record"]["id"] == number


def test_the_payload_is_the_record_byte_for_byte() -> None:
    value = '{"a": 1.10,\n "b":"gr\\u00f6ße", "a": 2}'.encode()
    flagged = Flagged([record(value)], [50.0], [1e-3], [1.0], [WHY], [[]])
    (alert,) = WRITER.write(flagged, detected_at=NOW)
    assert alert.to_json().endswith(b'"payload":' + value + b"}")
    assert "payload" not in json.loads(without_payload(alert.to_json()))
    assert "payload" not in written(value, writer=changed(with_payload=False))


def test_a_record_that_nests_deeper_than_python_recurses_can_still_be_reported() -> None:
    value = b'{"z":' + b"[" * 1010 + b"]" * 1010 + b"}"
    flagged = Flagged([record(value)], [50.0], [1e-3], [1.0], [WHY], [[]])
    (alert,) = WRITER.write(flagged, detected_at=NOW)
    assert alert.record.id is None
    assert value in alert.to_json()


@pytest.mark.parametrize(
    ("timestamp", "shown"),
    [(0, "1970-01-01T00:00:00.000Z"), (-1, "1969-12-31T23:59:59.999Z"), (253402300799999, "9999-12-31T23:59:59.999Z")],
)
def test_kafka_s_timestamp_is_shown_in_utc(timestamp: int, shown: str) -> None:
    assert written(b"{}", timestamp=timestamp)["record"]["timestamp"] == shown


def test_a_timestamp_far_beyond_any_calendar_ends_nothing() -> None:
    flagged = Flagged([record(b"{}", timestamp=2**62)], [50.0], [1e-3], [1.0], [WHY], [[]])
    (alert,) = WRITER.write(flagged, detected_at=NOW)
    assert alert.record.timestamp.endswith("Z")


@pytest.mark.parametrize("raw_score", [float("inf"), float("nan")])
def test_a_raw_score_beyond_float32_is_null(raw_score: float) -> None:
    flagged = Flagged([record(b"{}")], [100.0], [1e-12], [raw_score], [WHY], [[]])
    (alert,) = WRITER.write(flagged, detected_at=NOW)
    document = json.loads(alert.to_json())
    assert document["raw_score"] is None
    Draft202012Validator(alert_schema()).validate(document)


def test_many_alerts_keep_the_order_of_their_records() -> None:
    n = 5
    flagged = Flagged(
        [record(b'{"meta":{"id":%d}}' % row, row) for row in range(n)], [50.0 + row for row in range(n)], [1e-3] * n, [1.0] * n,
        [WHY] * n, [[]] * n,
    )  # fmt: skip
    alerts = WRITER.write(flagged, detected_at=NOW)
    assert [(alert.record.offset, alert.record.id, alert.score) for alert in alerts] == [
        (r, r, 50.0 + r) for r in range(n)
    ]


def test_a_bundle_s_writer_takes_names_and_paths_from_it(machines_bundle: Bundle) -> None:
    writer = AlertWriter.for_bundle(machines_bundle, CLUSTER, 40.0, with_payload=False)
    assert (writer.id_path, writer.event_time_path, writer.key_path) == ("reading_id", "read_at", "machine")
    assert (writer.model.name, writer.model.version) == ("machines", machines_bundle.path.name)


def test_a_feature_has_the_share_of_the_column_that_deviates_most(machines_bundle: Bundle) -> None:
    frame = readings(2, seed=1)
    X = machines_bundle.preprocessor.transform(frame).X
    residual = np.zeros_like(X)
    residual[0, [0, 4, 5, 6]] = [2.0, 1.0, 3.0, 4.0]
    first, second = attribute(machines_bundle.preprocessor, frame, Explanation(X, residual), 3)
    assert [(part.feature, part.share) for part in first] == [
        ("mode", 0.6667),
        ("load", 0.3333),
        ("motor.current_a", 0.0),
    ]
    assert [part.share for part in second] == [0.0, 0.0, 0.0]
    assert first[0].value == first[0].expected == frame["mode"][0]
    assert first[1].value == frame["load"][0]
    assert first[1].expected == pytest.approx(frame["load"][0], rel=1e-3)


def test_of_an_array_the_cell_is_named_that_differs_most() -> None:
    image = ArrayColumn(feature="image", shape=(2, 2, 1), typical=(0.0,) * 4, centre=50.0, scale=50.0)
    load = NumericColumn(feature="load", typical=0.0, log=False, mean=0.0, sd=1.0)
    preprocessor = Preprocessor(columns=(load, image), clip=None)
    cells = pl.Series("image", [[0.0, 25.0, 50.0, 100.0], None, [1.0, 2.0, 3.0, 4.0]], dtype=pl.Array(pl.Float64, 4))
    frame = pl.DataFrame({"load": [1.0, 2.0, 3.0], "image": cells})
    residual = np.array([[3, 1, 0, 5, 1], [1, 0, 0, 0, 3], [4, 0, 0, 0, 0]], dtype=np.float32)
    x_hat = np.tile(np.float32([1, 0, 0, -0.5, 1]), (3, 1))
    found = attribute(preprocessor, frame, Explanation(x_hat, residual), 2)
    assert [tuple(msgspec.structs.astuple(part) for part in parts) for parts in found] == [
        (("image[1,0,0]", 50.0, 25.0, 0.625), ("load", 1.0, 1.0, 0.375)),
        (("image[1,1,0]", None, 100.0, 0.75), ("load", 2.0, 1.0, 0.25)),
        (("load", 3.0, 1.0, 1.0), ("image[0,0,0]", 1.0, 50.0, 0.0)),
    ]


def test_no_more_features_are_named_than_there_are(machines_bundle: Bundle) -> None:
    frame = readings(1, seed=1)
    X = machines_bundle.preprocessor.transform(frame).X
    (found,) = attribute(machines_bundle.preprocessor, frame, Explanation(X, np.ones_like(X)), 100)
    assert sorted(part.feature for part in found) == sorted(frame.columns)
    assert sum(part.share for part in found) == pytest.approx(1.0, abs=1e-3)
