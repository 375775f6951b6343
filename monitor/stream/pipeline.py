"""One micro-batch from raw bytes to messages: decode, transform, score, decide, explain. Publishes nothing itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.alerting.alert import Alert, AlertWriter, Flagged, alert_id, without_payload
from monitor.archive.sample import Sample, Sampler, ScoredRows
from monitor.drift.psi import SampledRows
from monitor.drift.watch import DriftWatch
from monitor.encodings.record_decoder import decoder_for
from monitor.encodings.transcoding import Patience, impatient
from monitor.model.bundle import Bundle
from monitor.model.calibration import tie_breakers
from monitor.model.decision import Decision, decide, decision_threshold, expected_alert_rate
from monitor.model.decode import RecordDecoder
from monitor.model.detection import Detections, detect, explain, imputed_features
from monitor.settings import Settings
from monitor.stream.batches import MicroBatch
from monitor.stream.broker import Cluster
from monitor.stream.dead_letters import dead_letter
from monitor.stream.judged import Beside, Judged
from monitor.stream.records import Record, Records
from monitor.stream.sink import Message


@dataclass(frozen=True)
class Pipeline:
    """Judges micro-batches with one model and one set of decision settings; another model or other settings are another one.

    Attributes:
        bundle: the model.
        settings: decision settings.
        cluster: identity of what alerts point into.
        beside: a model whose scores are compared and never published.
        sampler: says which records are kept for the archive.
        drift: watches what this model is given and what it says of it.
        now: wall clock with a time zone.
        patience: what to do when the schema registry cannot be reached, where records need one.
    """

    bundle: Bundle
    settings: Settings
    cluster: Cluster
    beside: Bundle | None = None
    sampler: Sampler | None = None
    drift: DriftWatch | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    patience: Patience = impatient

    def __post_init__(self) -> None:
        """Makes the decoder, so that what it lacks is an error at the start."""
        _ = self._decoder

    @cached_property
    def _decoder(self) -> RecordDecoder:
        return decoder_for(self.bundle.decoder(self.settings.max_record_bytes), self.settings, self.patience)

    @property
    def threshold(self) -> float:
        """Least score that is flagged."""
        return decision_threshold(self.settings, self.bundle.calibration)

    @property
    def target_alert_rate(self) -> float:
        """Expected share of normal records that are flagged."""
        return expected_alert_rate(self.settings)

    def judge(self, batch: MicroBatch) -> Judged:
        """Decodes and scores a micro-batch and writes its alerts and dead letters; may be called by several threads."""
        settings = self.settings
        stages: dict[str, float] = {}
        stage = _stage_timer(stages)
        with stage("decode"):
            records = batch.read()
            decoded = self._decoder.decode(records.values)
        rows = np.asarray(decoded.rows, dtype=np.intp)
        tie_breaker = _tie_breakers(self.bundle, records)[rows]
        detections = detect(self.bundle, decoded.frame, tie_breaker, stage)
        decision = self._decide(self.bundle, detections)
        flagged = np.flatnonzero(decision.flagged)
        with stage("explain"):
            alarming = [replace(records[row], value=decoded.documents[row]) for row in rows[flagged].tolist()]
            alerts = self._alerts(alarming, decoded.frame, detections, decision)
            dead = [
                (row, dead_letter(records[row], reason, settings.dead_letters_topic)) for row, reason in decoded.invalid
            ]
        with stage("beside"):
            beside = self._score_beside(records, rows, decoded.frame)
            sample = self._sample(records, rows, decoded.frame, detections, flagged)
            inputs = self._inputs(detections, tie_breaker)
        in_order = sorted([*zip(rows[flagged].tolist(), alerts, strict=True), *dead], key=lambda entry: entry[0])
        return Judged(
            batch=batch,
            by=self,
            messages=[message for _, message in in_order],
            scores=detections.score,
            p_values=detections.p_value,
            n_flagged=len(flagged),
            invalid=decoded.invalid,
            imputed=self._imputed(detections),
            timestamps_ms=records.timestamps_ms,
            stage_seconds=stages,
            beside=beside,
            sample=sample,
            inputs=inputs,
        )

    def _decide(self, bundle: Bundle, detections: Detections) -> Decision:
        """Which records of a micro-batch are flagged by a model's scores."""
        return decide(
            self.settings,
            bundle.calibration,
            raw_score=detections.raw_score,
            p_value=detections.p_value,
            score=detections.score,
        )

    def _inputs(self, detections: Detections, tie_breaker: NDArray[np.float64]) -> SampledRows | None:
        return self.drift.sample(detections.X, detections.missing, tie_breaker) if self.drift else None

    def _score_beside(self, records: Records, rows: NDArray[np.intp], frame: pl.DataFrame) -> Beside | None:
        """What the other model says of the same rows."""
        if self.beside is None:
            return None
        detections = detect(self.beside, frame, _tie_breakers(self.beside, records)[rows])
        n_flagged = int(self._decide(self.beside, detections).flagged.sum())
        return Beside(self.beside.version, detections.p_value, n_flagged)

    def _sample(
        self,
        records: Records,
        rows: NDArray[np.intp],
        frame: pl.DataFrame,
        detections: Detections,
        flagged: NDArray[np.intp],
    ) -> Sample | None:
        """The rows that the archive may want."""
        if self.sampler is None:
            return None
        partitions, offsets = records.partitions[rows].astype(np.int32), records.offsets[rows]
        scored = ScoredRows(
            frame=frame,
            topic=records.topic,
            partitions=partitions,
            offsets=offsets,
            # A record from the future would keep its stratum for ever.
            times=np.minimum(records.timestamps_ms[rows] / 1000, time.time()),
            raw_score=detections.raw_score,
            p_value=detections.p_value,
            score=detections.score,
            model=self.bundle.version,
            alert_ids={
                row: alert_id(self.cluster, records.topic, int(partitions[row]), int(offsets[row]))
                for row in flagged.tolist()
            },
        )
        return scored.sample(self.sampler.limit)

    def _alerts(self, records: list[Record], frame: Any, detections: Detections, decision: Decision) -> list[Message]:
        """Messages for the flagged rows."""
        settings = self.settings
        if not records:
            return []
        flagged = np.flatnonzero(decision.flagged)
        found = Flagged(
            records=records,
            score=detections.score[flagged].tolist(),
            p_value=detections.p_value[flagged].tolist(),
            raw_score=detections.raw_score[flagged].tolist(),
            attribution=explain(self.bundle, frame, detections, flagged, settings.attribution_top_k),
            imputed=[imputed_features(self.bundle, detections.missing, row) for row in flagged.tolist()],
        )
        writer = AlertWriter.for_bundle(
            self.bundle, self.cluster, decision.threshold, with_payload=settings.alert_payload
        )
        alerts = writer.write(found, detected_at=self.now())
        return [
            _alert_message(settings.alerts_topic, record, alert) for record, alert in zip(records, alerts, strict=True)
        ]

    def _imputed(self, detections: Detections) -> dict[str, int]:
        if detections.missing is None:
            return {}
        counts = detections.missing.sum(axis=0).tolist()
        return {name: count for name, count in zip(self.bundle.schema.feature_names, counts, strict=True) if count}


def _tie_breakers(bundle: Bundle, records: Records) -> NDArray[np.float64]:
    values = np.empty(len(records), dtype=np.float64)
    for partition in np.unique(records.partitions).tolist():
        of_it = records.partitions == partition
        values[of_it] = tie_breakers(bundle.sha256, records.topic, partition, records.offsets[of_it])
    return values


def _alert_message(topic: str, record: Record, alert: Alert) -> Message:
    return Message(topic, record.key, alert.to_json(), lane=record.partition, shrink=_shrunk)


def _shrunk(message: Message) -> Message:
    return replace(message, value=without_payload(message.value), shrink=None)


def _stage_timer(seconds: dict[str, float]) -> Any:
    @contextmanager
    def stage(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started

    return stage
