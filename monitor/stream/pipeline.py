"""One micro-batch from raw bytes to messages: decode, transform, score, decide, explain. Publishes nothing itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.alerting.alert import Alert, AlertWriter, Flagged, without_payload
from monitor.errors import InvalidRecord, TooManyInvalidRecords
from monitor.model.bundle import Bundle
from monitor.model.calibration import decision_threshold, p_value_of, tie_breakers
from monitor.model.decode import Decoder
from monitor.model.detection import Detections, detect, explain, imputed_features
from monitor.settings import Settings
from monitor.stream.batches import MicroBatch
from monitor.stream.broker import Cluster
from monitor.stream.dead_letters import dead_letter
from monitor.stream.records import Record, Records
from monitor.stream.sink import Message


@dataclass(frozen=True)
class Judged:
    """What became of a micro-batch, before anything of it was published.

    Attributes:
        batch: the records.
        messages: alerts and dead letters, in the order of the records.
        scores: float64 (n_scored,).
        n_flagged: how many alerts there are.
        invalid: position in the batch and reason of each dead letter, ascending.
        imputed: replaced values by feature.
        timestamps_ms: int64 (n_rows,), Kafka's timestamps.
        stage_seconds: wall time by stage.
    """

    batch: MicroBatch
    messages: list[Message]
    scores: NDArray[np.float64]
    n_flagged: int
    invalid: Sequence[tuple[int, InvalidRecord]]
    imputed: dict[str, int]
    timestamps_ms: NDArray[np.int64]
    stage_seconds: dict[str, float]

    @property
    def reasons(self) -> Counter[str]:
        """Dead letters by reason."""
        return Counter(reason.reason for _, reason in self.invalid)


class InvalidWindow:
    """Counts invalid records among the last ones and says when there are too many.

    It trips as soon as the count alone exceeds `max_invalid_ratio` of a full window, so a topic of nothing but invalid
    records is left after a fraction of the window.
    """

    def __init__(self, window_rows: int) -> None:
        self._last = np.zeros(window_rows, dtype=np.bool_)

    def check(
        self, n_rows: int, invalid: Sequence[tuple[int, InvalidRecord]], *, topic: str, max_invalid_ratio: float
    ) -> None:
        """Takes the outcome of a batch, in order.

        Raises:
            TooManyInvalidRecords: the limit is exceeded at any point of the batch.
        """
        outcome = np.zeros(n_rows, dtype=np.bool_)
        outcome[[row for row, _ in invalid]] = True
        window = len(self._last)
        history = np.concatenate([self._last, outcome])
        self._last = history[-window:]
        if not invalid:
            return
        counts = np.cumsum(history)
        worst = int((counts[window:] - counts[:-window]).max(initial=0))
        if worst > max_invalid_ratio * window:
            raise TooManyInvalidRecords(
                topic=topic, invalid=worst, window=window, max_invalid_ratio=max_invalid_ratio, example=invalid[-1][1]
            )


@dataclass
class Pipeline:
    """Judges micro-batches with one model and one set of decision settings.

    Attributes:
        bundle: the model.
        settings: decision settings; replaced on SIGHUP.
        cluster: identity of what alerts point into.
        now: wall clock with a time zone.
    """

    bundle: Bundle
    settings: Settings
    cluster: Cluster
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _decoder: Decoder = field(init=False)
    _window: InvalidWindow = field(init=False)

    def __post_init__(self) -> None:
        self._decoder = self.bundle.decoder(self.settings.max_record_bytes)
        self._window = InvalidWindow(self.settings.invalid_window_rows)

    @property
    def threshold(self) -> float:
        """Least score that is flagged."""
        return decision_threshold(self.settings.threshold, self.settings.target_alert_rate)

    @property
    def target_alert_rate(self) -> float:
        """Expected share of normal records that reach the threshold."""
        settings = self.settings
        return settings.target_alert_rate if settings.threshold is None else p_value_of(settings.threshold)

    def judge(self, batch: MicroBatch) -> Judged:
        """Decodes and scores a micro-batch and writes its alerts and dead letters; may be called by several threads."""
        settings = self.settings
        stages: dict[str, float] = {}
        stage = _stage_timer(stages)
        with stage("decode"):
            records = batch.read()
            decoded = self._decoder.decode(records.values)
        rows = np.asarray(decoded.rows, dtype=np.intp)
        detections = detect(self.bundle, decoded.frame, self._tie_breakers(records)[rows], stage)
        flagged = np.flatnonzero(detections.score >= self.threshold)
        with stage("explain"):
            alerts = self._alerts([records[rows[place]] for place in flagged], decoded.frame, detections, flagged)
            dead = [
                (row, dead_letter(records[row], reason, settings.dead_letters_topic)) for row, reason in decoded.invalid
            ]
        in_order = sorted([*zip(rows[flagged].tolist(), alerts, strict=True), *dead], key=lambda entry: entry[0])
        return Judged(
            batch=batch,
            messages=[message for _, message in in_order],
            scores=detections.score,
            n_flagged=len(flagged),
            invalid=decoded.invalid,
            imputed=self._imputed(detections),
            timestamps_ms=records.timestamps_ms,
            stage_seconds=stages,
        )

    def admit(self, judged: Judged) -> None:
        """Takes note of what was invalid, batch after batch.

        Raises:
            TooManyInvalidRecords: more than `max_invalid_ratio` of the last records were invalid.
        """
        self._window.check(
            judged.batch.n_rows,
            judged.invalid,
            topic=self.settings.features_topic,
            max_invalid_ratio=self.settings.max_invalid_ratio,
        )

    def _tie_breakers(self, records: Records) -> NDArray[np.float64]:
        values = np.empty(len(records), dtype=np.float64)
        for partition in np.unique(records.partitions).tolist():
            of_it = records.partitions == partition
            values[of_it] = tie_breakers(self.bundle.sha256, records.topic, partition, records.offsets[of_it])
        return values

    def _alerts(
        self, records: list[Record], frame: Any, detections: Detections, flagged: NDArray[np.intp]
    ) -> list[Message]:
        """Messages for the flagged rows."""
        settings = self.settings
        if not records:
            return []
        rows = flagged.tolist()
        found = Flagged(
            records=records,
            score=detections.score[flagged].tolist(),
            p_value=detections.p_value[flagged].tolist(),
            raw_score=detections.raw_score[flagged].tolist(),
            attribution=explain(self.bundle, frame, detections, flagged, settings.attribution_top_k),
            imputed=[imputed_features(self.bundle, detections.missing, row) for row in rows],
        )
        writer = AlertWriter.for_bundle(self.bundle, self.cluster, self.threshold, with_payload=settings.alert_payload)
        alerts = writer.write(found, detected_at=self.now())
        return [
            _alert_message(settings.alerts_topic, record, alert) for record, alert in zip(records, alerts, strict=True)
        ]

    def _imputed(self, detections: Detections) -> dict[str, int]:
        if detections.missing is None:
            return {}
        counts = detections.missing.sum(axis=0).tolist()
        return {name: count for name, count in zip(self.bundle.schema.feature_names, counts, strict=True) if count}


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
