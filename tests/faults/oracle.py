"""The one oracle of all rows: what an offline run of the same model makes of the records, against what readers of the topics see.

Every record carries its sequence number as its id; an alert must name it, and the place in Kafka where that record stands.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from monitor.model.bundle import Bundle
from monitor.model.calibration import threshold_of, tie_breakers
from monitor.model.detection import detect
from tests.broker.conftest import Stream
from tests.faults.outcome import Delivered
from tests.topics import headers_of, read_all

ALERT_RATE = 0.01  # what `Stream.settings` asks for
LARGEST = 4 * 2**20
Place = tuple[int, int]
Inputs = Mapping[Place, bytes | None]


@dataclass(frozen=True)
class Expected:
    """What must come out.

    Attributes:
        alerts: by partition and offset: the record's id, its raw score and p-value.
        dead_letters: by partition and offset: the reason and what the value is known by.
    """

    alerts: dict[Place, tuple[Any, ...]]
    dead_letters: dict[Place, tuple[Any, ...]]


def inputs_of(stream: Stream) -> dict[Place, bytes | None]:
    """Every record of the features topic, by partition and offset."""
    records = read_all(stream.kafka.bootstrap, stream.features)
    return {(record.partition, record.offset): record.value for record in records}


def expect(bundle: Bundle, topic: str, inputs: Inputs, threshold: float) -> Expected:
    """Judges the records offline, partition by partition."""
    offsets: dict[int, list[int]] = defaultdict(list)
    for partition, offset in sorted(inputs):
        offsets[partition].append(offset)
    expected = Expected({}, {})
    for partition, own in offsets.items():
        values = [inputs[partition, offset] for offset in own]
        decoded = bundle.decoder(LARGEST).decode(values)
        rows = np.asarray(decoded.rows, dtype=np.intp)
        breakers = tie_breakers(bundle.sha256, topic, partition, np.array(own, dtype=np.int64)[rows])
        found = detect(bundle, decoded.frame, breakers)
        for place in np.flatnonzero(found.score >= threshold):
            row = int(rows[place])
            expected.alerts[partition, own[row]] = (
                _id_of(values[row]),
                float(found.raw_score[place]),
                float(found.p_value[place]),
            )
        for row, reason in decoded.invalid:
            expected.dead_letters[partition, own[row]] = (reason.reason, _known_by(values[row] or b""))
    return expected


def compare(
    stream: Stream, bundle: Bundle, *, inputs: Inputs | None = None, threshold: float | None = None
) -> Delivered:
    """Reads what was published and compares.

    Args:
        stream: whose topics.
        bundle: the model that the daemon had.
        inputs: the records that had to be judged; all of the features topic by default.
        threshold: on the score; that of `ALERT_RATE` by default.
    """
    wanted = expect(
        bundle,
        stream.features,
        inputs_of(stream) if inputs is None else inputs,
        threshold_of(ALERT_RATE) if threshold is None else threshold,
    )
    alerts = [
        (record.partition, msgspec.json.decode(record.value))
        for record in read_all(stream.kafka.bootstrap, stream.alerts)
    ]
    letters = read_all(stream.kafka.bootstrap, stream.dead_letters)
    return Delivered(
        **_alerts(wanted.alerts, [alert for _, alert in alerts])
        | {"reordered": _reordered(alerts), "dead_letters": len({_place_of(letter) for letter in letters})}
    ) + _letters(wanted.dead_letters, letters)


def _alerts(wanted: Mapping[Place, tuple[Any, ...]], alerts: list[dict[str, Any]]) -> dict[str, int]:
    by_id = {alert["id"]: alert for alert in alerts}
    places = [(alert["record"]["partition"], alert["record"]["offset"]) for alert in by_id.values()]
    said = {
        (place, (alert["record"]["id"], alert["raw_score"], alert["p_value"]))
        for place, alert in zip(places, by_id.values(), strict=True)
    }
    changed = sum(
        alert["raw_score"] != by_id[alert["id"]]["raw_score"] or alert["record"] != by_id[alert["id"]]["record"]
        for alert in alerts
    )
    return {
        "alerts": len(wanted),
        "lost": len(wanted.keys() - set(places)),
        "repeated": len(alerts) - len(by_id),
        "duplicates": len(places) - len(set(places)),
        "wrong": changed + sum(wanted.get(place) != content for place, content in said),
    }


def _letters(wanted: Mapping[Place, tuple[Any, ...]], letters: list[Any]) -> Delivered:
    found = {_place_of(letter): (headers_of(letter)["reason"], _known_by_letter(letter)) for letter in letters}
    return Delivered(
        alerts=0,
        dead_letters=0,
        lost=len(wanted.keys() - found.keys()),
        repeated=len(letters) - len(found),
        duplicates=0,
        reordered=0,
        wrong=sum(wanted.get(place) != content for place, content in found.items()),
    )


def _reordered(alerts: list[tuple[int, dict[str, Any]]]) -> int:
    """How many alerts stand behind one of a later record, where they appear first; in the order of the topic."""
    newest: dict[Place, int] = {}
    seen: set[str] = set()
    count = 0
    for own_partition, alert in alerts:
        if alert["id"] in seen:
            continue
        seen.add(alert["id"])
        lane = (own_partition, alert["record"]["partition"])
        offset = alert["record"]["offset"]
        count += offset < newest.get(lane, -1)
        newest[lane] = max(offset, newest.get(lane, -1))
    return count


def _id_of(value: bytes | None) -> Any:
    return msgspec.json.decode(value or b"{}").get("reading_id")


def _place_of(letter: Any) -> Place:
    headers = headers_of(letter)
    return int(headers["partition"]), int(headers["offset"])


def _known_by(value: bytes) -> tuple[int, str]:
    return len(value), hashlib.sha256(value).hexdigest()


def _known_by_letter(letter: Any) -> tuple[int, str]:
    """A letter carries the value itself or, where that is too large, its size and hash."""
    headers = headers_of(letter)
    return (int(headers["size"]), headers["sha256"]) if "truncated" in headers else _known_by(letter.value)
