"""The alert document `ganwatch.alert/1`; its JSON Schema is `alert.schema.json` beside this file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Literal

import msgspec
import numpy as np

from monitor.model.attribution import Attribution
from monitor.model.bundle import Bundle
from monitor.stream.broker import Cluster
from monitor.stream.records import Record

FORMAT = "ganwatch.alert/1"

Severity = Literal["low", "medium", "high", "critical"]
# Least score of each severity; their p-values are 4e-6, 3e-5 and 1e-3.
_SEVERITIES: tuple[tuple[float, Severity], ...] = ((90.0, "critical"), (75.0, "high"), (50.0, "medium"))


def severity_of(score: float) -> Severity:
    """From the 0-100 score: low below 50 (p > 1e-3), medium, high from 75 (p = 3e-5), critical from 90 (p = 4e-6)."""
    return next((severity for least, severity in _SEVERITIES if score >= least), "low")


class RecordReference(msgspec.Struct, frozen=True, gc=False):
    """Where the record stands in Kafka, and what its own fields call it."""

    topic: str
    partition: int
    offset: int
    timestamp: str
    key: str | None
    id: Any
    event_time: Any


class ModelReference(msgspec.Struct, frozen=True):
    """Which model said so."""

    name: str
    version: str
    sha256: str


class Alert(msgspec.Struct, frozen=True):
    """One anomalous record; the fields in the order of the document."""

    format: str
    id: str
    detected_at: str
    record: RecordReference
    score: float
    p_value: float
    raw_score: float
    threshold: float
    severity: Severity
    model: ModelReference
    attribution: list[Attribution]
    imputed: list[str]
    replay: bool
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    def to_json(self) -> bytes:
        """The document."""
        return _ENCODER.encode(self)


_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True)
class Flagged:
    """The flagged records of a micro-batch, one entry a record in each list.

    Attributes:
        records: as they came; each has a value.
        score: 0 to 100.
        p_value: in (0, 1].
        raw_score: the detector's own scale.
        attribution: why.
        imputed: features whose value was missing.
    """

    records: Sequence[Record]
    score: Sequence[float]
    p_value: Sequence[float]
    raw_score: Sequence[float]
    attribution: Sequence[list[Attribution]]
    imputed: Sequence[list[str]]


def alert_id(cluster: Cluster, topic: str, partition: int, offset: int) -> str:
    """32 hex digits from the record's place alone, so that a redelivered record gives an alert of the same id."""
    place = f"{cluster.id}\0{topic}\0{cluster.topic_id}\0{partition}\0{offset}"
    return hashlib.sha256(place.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class AlertWriter:
    """Makes alerts of one model and one deployment.

    Attributes:
        cluster: where the records stand.
        model: which model scores.
        threshold: least score that is flagged.
        with_payload: whether alerts carry the record.
        id_path: dotted path of the record's id field, or None.
        event_time_path: dotted path of its timestamp field, or None.
        key_path: dotted path of its key field, used when the Kafka key is absent; or None.
    """

    cluster: Cluster
    model: ModelReference
    threshold: float
    with_payload: bool
    id_path: str | None
    event_time_path: str | None
    key_path: str | None

    @classmethod
    def for_bundle(cls, bundle: Bundle, cluster: Cluster, threshold: float, *, with_payload: bool) -> AlertWriter:
        """The writer for a bundle in service."""
        schema = bundle.schema
        return cls(
            cluster=cluster,
            model=ModelReference(bundle.manifest.model, bundle.version, bundle.sha256),
            threshold=threshold,
            with_payload=with_payload,
            id_path=schema.id,
            event_time_path=schema.timestamp.field if schema.timestamp else None,
            key_path=schema.key,
        )

    def write(self, flagged: Flagged, *, detected_at: datetime) -> Iterator[Alert]:
        """The alerts of flagged records, in order, one at a time.

        Args:
            flagged: what scoring says about them.
            detected_at: now, with a time zone.
        """
        moment = _stamp(detected_at)
        threshold = round(self.threshold, 2)
        columns = (flagged.score, flagged.p_value, flagged.raw_score, flagged.attribution, flagged.imputed)
        timestamps = np.array([record.timestamp for record in flagged.records], dtype="datetime64[ms]")
        stamps = np.datetime_as_string(timestamps, unit="ms", timezone="UTC").tolist()
        for record, stamp, score, p_value, raw_score, attribution, imputed in zip(
            flagged.records, stamps, *columns, strict=True
        ):
            reference = self._reference(record, stamp)
            yield Alert(
                format=FORMAT,
                id=alert_id(self.cluster, reference.topic, reference.partition, reference.offset),
                detected_at=moment,
                record=reference,
                score=round(score, 2),
                p_value=p_value,
                raw_score=raw_score,
                threshold=threshold,
                severity=severity_of(score),
                model=self.model,
                attribution=attribution,
                imputed=imputed,
                replay=False,
                payload=msgspec.Raw(record.value or b"null") if self.with_payload else msgspec.UNSET,
            )

    def _reference(self, record: Record, stamp: str) -> RecordReference:
        paths = (self.id_path, self.event_time_path, self.key_path)
        content = _content(record.value or b"") if any(paths) else None
        key = record.key.decode(errors="replace") if record.key is not None else _at(content, self.key_path)
        return RecordReference(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp=stamp,
            key=None if key is None else str(key),
            id=_at(content, self.id_path),
            event_time=_at(content, self.event_time_path),
        )


def without_payload(document: bytes) -> bytes:
    """The same alert for a topic that refuses it for its size."""
    fields = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    return _ENCODER.encode({name: value for name, value in fields.items() if name != "payload"})


def marked_as_replay(document: bytes) -> bytes:
    """The same alert of a record that was scored once more, beside the live stream."""
    fields = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    return _ENCODER.encode(fields | {"replay": True})


def alert_schema() -> dict[str, Any]:
    """The JSON Schema of the document."""
    schema: dict[str, Any] = msgspec.json.decode(files("monitor.alerting").joinpath("alert.schema.json").read_bytes())
    return schema


def _content(value: bytes) -> Any:
    """The record as plain objects; None where it nests deeper than Python recurses, which scoring does not mind."""
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return None


def _at(content: Any, path: str | None) -> Any:
    """The value at a dotted path; None when there is none or it is not a scalar."""
    if path is None:
        return None
    for part in path.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content if isinstance(content, str | int | float | bool) else None


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
