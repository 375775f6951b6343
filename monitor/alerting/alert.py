"""The alert document `ganwatch.alert/1`; its JSON Schema is `alert.schema.json` beside this file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Literal

import msgspec

from monitor.model.attribution import Attribution
from monitor.model.bundle import Bundle
from monitor.stream.broker import Cluster

FORMAT = "ganwatch.alert/1"

Severity = Literal["low", "medium", "high", "critical"]
# Least score of each severity: p-values of 1e-3, 3e-5 and 1e-6·4.
_SEVERITIES: tuple[tuple[float, Severity], ...] = ((90.0, "critical"), (75.0, "high"), (50.0, "medium"))


def severity_of(score: float) -> Severity:
    """From the 0-100 score: low below 50 (p > 1e-3), medium, high from 75 (p = 3e-5), critical from 90 (p = 4e-6)."""
    return next((severity for least, severity in _SEVERITIES if score >= least), "low")


class RecordReference(msgspec.Struct, frozen=True):
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


class Alert(msgspec.Struct, frozen=True, omit_defaults=False):
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
        return msgspec.json.encode(self)


@dataclass(frozen=True)
class Finding:
    """What scoring says about one flagged record."""

    score: float
    p_value: float
    raw_score: float
    attribution: list[Attribution]
    imputed: list[str]


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

    def write(self, record: Any, finding: Finding, *, detected_at: datetime) -> Alert:
        """The alert for one flagged record.

        Args:
            record: kafka-python's ConsumerRecord.
            finding: what scoring says.
            detected_at: now, with a time zone.
        """
        content = _content(record.value)
        key = record.key.decode(errors="replace") if record.key is not None else _at(content, self.key_path)
        return Alert(
            format=FORMAT,
            id=alert_id(self.cluster, record.topic, record.partition, record.offset),
            detected_at=_stamp(detected_at),
            record=RecordReference(
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                timestamp=_stamp(datetime.fromtimestamp(record.timestamp / 1000, tz=UTC)),
                key=None if key is None else str(key),
                id=_at(content, self.id_path),
                event_time=_at(content, self.event_time_path),
            ),
            score=round(finding.score, 2),
            p_value=finding.p_value,
            raw_score=finding.raw_score,
            threshold=round(self.threshold, 2),
            severity=severity_of(finding.score),
            model=self.model,
            attribution=finding.attribution,
            imputed=finding.imputed,
            replay=False,
            payload=msgspec.Raw(record.value) if self.with_payload else msgspec.UNSET,
        )


def without_payload(alert: Alert) -> Alert:
    """The same alert for a topic that refuses it for its size."""
    return msgspec.structs.replace(alert, payload=msgspec.UNSET)


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
