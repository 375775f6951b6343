"""From a micro-batch to its messages: the same for a record in any batch, at any delivery, beside any neighbours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from monitor.errors import TooManyInvalidRecords
from monitor.model.bundle import Bundle
from monitor.model.calibration import threshold_of, tie_breakers
from monitor.model.detection import detect
from monitor.settings import Settings
from monitor.stream.admission import Admission
from monitor.stream.batches import Segment
from monitor.stream.broker import Cluster
from monitor.stream.invalid_window import InvalidWindow
from monitor.stream.pipeline import Pipeline
from monitor.stream.sink import Message
from monitor.telemetry.metrics import STAGES
from tests.machines import as_json, readings
from tests.monitor.records import batch_of, segment

CLUSTER = Cluster(id="cluster", topic_id="topic")
NOW = datetime(2026, 3, 1, 12, 0, 1, tzinfo=UTC)
POISON: list[bytes | None] = [None, b"{", b'{"pieces":"many"}', b'{"load":1}', b"\xff", b"{}{}", b'{"mode":\n"a\nb"}']


def pipeline_of(bundle: Bundle, **settings: Any) -> Pipeline:
    relaxed = {"target_alert_rate": 0.02, "max_invalid_ratio": 1.0}
    return Pipeline(bundle, Settings.model_validate(relaxed | settings), CLUSTER, now=lambda: NOW)


def records_of(n: int = 200, *, anomalies: int | None = None) -> list[bytes]:
    """Readings of which one in ten is broken, unless told otherwise."""
    return as_json(readings(n, seed=3, anomalies=n // 10 if anomalies is None else anomalies))


def judged(pipeline: Pipeline, *segments: Segment) -> list[Message]:
    return pipeline.judge(batch_of(*segments)).messages


def documents(messages: Sequence[Message]) -> dict[tuple[int, int], dict[str, Any]]:
    """The alerts among messages, by partition and offset."""
    alerts = [json.loads(message.value) for message in messages if message.topic == "alerts"]
    return {(alert["record"]["partition"], alert["record"]["offset"]): alert for alert in alerts}


def dead_offsets(messages: Sequence[Message]) -> list[int]:
    return [int(dict(message.headers)["offset"]) for message in messages if message.topic == "dead-letters"]


def test_exactly_the_records_whose_score_reaches_the_threshold_become_alerts(machines_bundle: Bundle) -> None:
    frame = readings(300, seed=3, anomalies=30)
    breakers = tie_breakers(machines_bundle.sha256, "features", 4, np.arange(1000, 1300))
    expected = detect(machines_bundle, frame, breakers)
    result = pipeline_of(machines_bundle).judge(batch_of(segment(as_json(frame), partition=4, first=1000)))
    flagged = np.flatnonzero(expected.score >= threshold_of(0.02))
    found = documents(result.messages)
    assert [offset for _, offset in found] == (flagged + 1000).tolist()
    assert 15 <= len(flagged) <= 60
    assert result.n_flagged == len(flagged)
    assert result.scores.tobytes() == expected.score.tobytes()
    for row in flagged.tolist():
        alert = found[4, row + 1000]
        assert (alert["p_value"], alert["raw_score"]) == (expected.p_value[row], float(expected.raw_score[row]))
        assert alert["score"] == round(expected.score[row], 2)


def test_the_alerts_of_a_record_do_not_depend_on_how_the_stream_was_cut(machines_bundle: Bundle) -> None:
    records = records_of()
    whole = documents(judged(pipeline_of(machines_bundle), segment(records)))
    for size in (1, 7, 64, 199):
        pipeline = pipeline_of(machines_bundle)
        parts: dict[tuple[int, int], dict[str, Any]] = {}
        for start in range(0, len(records), size):
            parts |= documents(judged(pipeline, segment(records[start : start + size], first=start)))
        assert parts == whole


def test_a_second_delivery_gives_the_same_alerts(machines_bundle: Bundle) -> None:
    pipeline = pipeline_of(machines_bundle)
    once, again = (judged(pipeline, segment(records_of(), first=70)) for _ in range(2))
    assert [message.value for message in once] == [message.value for message in again]
    assert len(once) > 10


def test_good_records_are_judged_as_if_the_poison_beside_them_were_not_there(machines_bundle: Bundle) -> None:
    records = records_of()
    clean = documents(judged(pipeline_of(machines_bundle), segment(records)))
    poisoned: list[bytes | None] = list(records)
    rng = np.random.default_rng(1)
    places = sorted(rng.choice(len(records), 60, replace=False).tolist())
    for number, place in enumerate(places):
        poisoned[place] = POISON[number % len(POISON)]
    messages = judged(pipeline_of(machines_bundle), segment(poisoned))
    assert documents(messages) == {place: alert for place, alert in clean.items() if place[1] not in places}
    assert dead_offsets(messages) == places


def test_each_partition_s_records_keep_their_own_coordinates(machines_bundle: Bundle) -> None:
    records = records_of()
    together = documents(
        judged(
            pipeline_of(machines_bundle),
            segment(records[:80], partition=2, first=500),
            segment(records[80:], partition=0, first=80),
        )
    )
    apart = documents(judged(pipeline_of(machines_bundle), segment(records[:80], partition=2, first=500)))
    apart |= documents(judged(pipeline_of(machines_bundle), segment(records[80:], partition=0, first=80)))
    assert together == apart
    assert {partition for partition, _ in together} <= {0, 2}


def test_messages_stand_in_the_order_of_their_records(machines_bundle: Bundle) -> None:
    values: list[bytes | None] = list(records_of(60, anomalies=60))
    values[10] = values[20] = b"{"
    messages = judged(pipeline_of(machines_bundle, threshold=0.0), segment(values))
    offsets = [
        json.loads(message.value)["record"]["offset"]
        if message.topic == "alerts"
        else int(dict(message.headers)["offset"])
        for message in messages
    ]
    assert offsets == list(range(60))
    assert [message.topic for message in messages].index("dead-letters") == 10


def test_a_threshold_replaces_the_target_rate(machines_bundle: Bundle) -> None:
    by_rate, by_score = (
        pipeline_of(machines_bundle, target_alert_rate=0.001),
        pipeline_of(machines_bundle, threshold=50.0),
    )
    assert by_rate.threshold == pytest.approx(50.0)
    assert by_score.threshold == 50.0
    assert by_score.target_alert_rate == pytest.approx(0.001)
    none = pipeline_of(machines_bundle, threshold=100.0).judge(batch_of(segment(records_of(100, anomalies=0))))
    assert none.n_flagged == 0
    every = pipeline_of(machines_bundle, threshold=0.0).judge(batch_of(segment(records_of(100, anomalies=0))))
    assert every.n_flagged == 100


def test_a_batch_of_nothing_but_bad_records_gives_dead_letters_only(machines_bundle: Bundle) -> None:
    result = pipeline_of(machines_bundle).judge(batch_of(segment(POISON)))
    assert [message.topic for message in result.messages] == ["dead-letters"] * len(POISON)
    assert len(result.scores) == 0
    assert result.reasons == {"empty": 1, "not_json": 3, "wrong_type": 1, "missing_field": 1, "not_utf8": 1}


def test_every_record_is_scored_or_a_dead_letter(machines_bundle: Bundle) -> None:
    result = pipeline_of(machines_bundle).judge(batch_of(segment([*records_of(50), *POISON])))
    assert len(result.scores) + sum(result.reasons.values()) == 50 + len(POISON)
    assert len(result.timestamps_ms) == 50 + len(POISON)


def test_too_many_bad_records_publish_nothing_and_name_one(machines_bundle: Bundle) -> None:
    pipeline = pipeline_of(machines_bundle, max_invalid_ratio=0.1, invalid_window_rows=50)
    admit = Admission(InvalidWindow(50))
    admit(pipeline.judge(batch_of(segment([*records_of(45), *[b"{"] * 5]))))
    with pytest.raises(TooManyInvalidRecords, match="6 of the last 50 records are invalid"):
        admit(pipeline.judge(batch_of(segment([b"{"], first=50))))


def test_missing_values_are_counted_by_feature_and_named_in_the_alert(machines_bundle: Bundle) -> None:
    values = [b'{"pieces":100,"mode":"drill","cooling":true}', b'{"pieces":100,"load":0.5,"motor":{"current_a":20}}']
    result = pipeline_of(machines_bundle, threshold=0.0).judge(batch_of(segment(values)))
    assert result.imputed == {"load": 1, "motor.current_a": 1, "motor.temperature_c": 2, "mode": 1, "cooling": 1}
    alerts = documents(result.messages)
    assert alerts[0, 0]["imputed"] == ["load", "motor.current_a", "motor.temperature_c"]
    assert alerts[0, 1]["imputed"] == ["motor.temperature_c", "mode", "cooling"]


def test_the_largest_share_of_a_planted_anomaly_is_the_planted_field(machines_bundle: Bundle) -> None:
    frame = readings(100, seed=8)
    values = [json.loads(value) for value in as_json(frame)]
    for value in values:
        value["motor"]["temperature_c"] += 40
    alerts = documents(
        judged(pipeline_of(machines_bundle, threshold=0.0), segment([json.dumps(v).encode() for v in values]))
    )
    first = [alert["attribution"][0]["feature"] for alert in alerts.values()]
    assert first.count("motor.temperature_c") >= 85


def test_settings_that_are_replaced_hold_from_the_next_batch_on(machines_bundle: Bundle) -> None:
    pipeline = pipeline_of(machines_bundle, threshold=0.0)
    before = documents(judged(pipeline, segment(records_of(3))))
    fewer = pipeline.settings.model_copy(update={"attribution_top_k": 2, "alert_payload": False})
    after = documents(judged(replace(pipeline, settings=fewer), segment(records_of(3))))
    assert [len(alert["attribution"]) for alert in before.values()] == [5, 5, 5]
    assert [len(alert["attribution"]) for alert in after.values()] == [2, 2, 2]
    assert ["payload" in alert for alert in (*before.values(), *after.values())] == [True] * 3 + [False] * 3


def test_an_alert_too_large_for_its_topic_loses_only_its_payload(machines_bundle: Bundle) -> None:
    (message,) = judged(pipeline_of(machines_bundle, threshold=0.0), segment(records_of(1), partition=3))
    assert message.shrink is not None
    smaller = message.shrink(message)
    alert, without = json.loads(message.value), json.loads(smaller.value)
    assert alert.pop("payload")
    assert without == alert
    assert (smaller.topic, smaller.key, smaller.lane) == (message.topic, message.key, message.lane)


def test_a_record_larger_than_allowed_is_a_dead_letter(machines_bundle: Bundle) -> None:
    result = pipeline_of(machines_bundle, max_record_bytes=64).judge(batch_of(segment(records_of(2))))
    assert result.reasons == {"too_large": 2}


def test_the_stages_that_are_timed_are_those_of_the_metrics(machines_bundle: Bundle) -> None:
    result = pipeline_of(machines_bundle).judge(batch_of(segment(records_of(10))))
    assert set(result.stage_seconds) == {"decode", "transform", "score", "explain", "beside"}
    assert set(result.stage_seconds) <= set(STAGES)
    assert all(seconds >= 0 for seconds in result.stage_seconds.values())
