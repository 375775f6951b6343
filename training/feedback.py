"""What people said about alerts: `{"alert_id": …, "label": …}`, from a file of JSON lines or from the feedback topic."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from monitor.errors import ConfigError
from monitor.settings import Settings
from monitor.stream.topic_reader import TimeRange, read_topic

log = logging.getLogger(__name__)

ANOMALY = frozenset({"anomaly", "confirmed", "true", "1"})
FALSE_ALARM = frozenset({"false_alarm", "false alarm", "normal", "false", "0"})
_MOST_RECORDS = 1_000_000


class _Entry(msgspec.Struct):
    alert_id: str
    label: str | bool | int


@dataclass(frozen=True)
class Feedback:
    """Judgements by alert.

    Attributes:
        anomalies: true where the alert was right; the last judgement counts.
        invalid: entries that could not be understood.
    """

    anomalies: dict[str, bool]
    invalid: int = 0


def read_feedback(source: str, settings: Settings) -> Feedback:
    """Reads a file that exists, or a topic; warns of entries that cannot be understood.

    Raises:
        ConfigError: the file cannot be read.
        BrokerError: Kafka cannot be reached, or there is no such topic.
    """
    feedback = parse_feedback(_entries(source, settings))
    if feedback.invalid:
        log.warning(
            "feedback_not_understood",
            extra={
                "source": source,
                "entries": feedback.invalid,
                "expected": '{"alert_id": "…", "label": "anomaly" | "false_alarm"}',
            },
        )
    return feedback


def _entries(source: str, settings: Settings) -> Sequence[bytes | None]:
    path = Path(source)
    if path.suffix in {".jsonl", ".ndjson", ".json"} or path.exists():
        try:
            return path.read_bytes().splitlines()
        except OSError as error:
            raise ConfigError(f"--feedback {source}", f"cannot be read: {error.strerror}") from error
    return [record.value for record in read_topic(source, settings, window=TimeRange(), last=_MOST_RECORDS)]


def parse_feedback(entries: Iterable[bytes | None]) -> Feedback:
    """Reads entries in the order in which they were given."""
    decoder = msgspec.json.Decoder(_Entry)
    anomalies: dict[str, bool] = {}
    invalid = 0
    for entry in entries:
        if not entry:
            continue
        try:
            decoded = decoder.decode(entry)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            invalid += 1
            continue
        word = str(decoded.label).strip().lower()
        if word in ANOMALY | FALSE_ALARM:
            anomalies[decoded.alert_id] = word in ANOMALY
        else:
            invalid += 1
    return Feedback(anomalies, invalid)
