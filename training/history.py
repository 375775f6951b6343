"""Training rows from a file or from a topic's time range, decoded as the daemon would decode them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.encodings.record_decoder import decoder_for
from monitor.errors import ConfigError
from monitor.model.decode import Decoded, Decoder
from monitor.model.schema import Schema, Timestamp
from monitor.model.tables import find_columns, read_features, read_sample
from monitor.settings import Settings
from monitor.stream.topic_reader import TimeRange, read_topic
from training.labels import labels_of_no_row, parse_labels

# The years 1 to 9999, seconds since 1970.
_WRITABLE_S = (-62_135_596_800, 253_402_300_799)
_RANGE = re.compile(r"^(?P<topic>[A-Za-z0-9._-]{1,249})(@(?P<start>.*?)\.\.(?P<end>.*))?$")


@dataclass(frozen=True)
class History:
    """Rows to learn from.

    Attributes:
        frame: the features, one column each (Float64, String, Boolean, Array of Float64; null is missing).
        source: the file or topic, for people.
        times: float64 (n,), seconds since 1970 when each event happened; None where that is unknown.
        labels: bool (n,), true = anomaly; None where there are none.
        ignored: columns of a file that are no features.
        absent: fields that the schema names beside the features, and no row has.
        unmatched: labels that were said to mean anomaly, and no row has.
        invalid: records of a topic that could not be decoded, by reason.
    """

    frame: pl.DataFrame
    source: str
    times: NDArray[np.float64] | None
    labels: NDArray[np.bool_] | None = None
    ignored: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    invalid: Counter[str] = field(default_factory=Counter)


def read_history(
    data: str,
    schema: Schema,
    settings: Settings,
    *,
    label: str | None = None,
    anomaly: Sequence[str] = (),
    max_rows: int,
) -> History:
    """Reads `FILE` or `TOPIC[@from..to]`.

    Args:
        data: a path that exists, or a topic with an optional range of ISO 8601 times with zone.
        schema: the features.
        settings: how to reach Kafka.
        label: column of a file that tells anomalies.
        anomaly: the labels that mean anomaly; see `parse_labels`.
        max_rows: the last so many rows are taken.

    Raises:
        ConfigError: neither a file nor a topic, or rows that do not fit the schema.
        BrokerError: Kafka cannot be reached, or there is no such topic.
    """
    if anomaly and label is None:
        raise ConfigError("--anomaly", "says which labels mean anomaly; --label names the column that holds them")
    if Path(data).exists():
        return _from_file(Path(data), schema, label, anomaly, max_rows)
    match = _RANGE.match(data)
    if match is None or Path(data).suffix in {".csv", ".parquet", ".jsonl", ".json", ".gz"}:
        raise ConfigError(f"--data {data}", "no such file, and not TOPIC or TOPIC@from..to with ISO 8601 times either")
    if label is not None:
        raise ConfigError("--label", "labels can be given for files only; a topic's records carry none")
    window = TimeRange(_moment(match["start"]), _moment(match["end"]))
    return _from_topic(match["topic"], window, schema, settings, max_rows)


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError("--data", f"{text!r} is not an ISO 8601 time such as 2026-01-31T12:00:00Z") from error
    if moment.tzinfo is None:
        raise ConfigError("--data", f"{text!r} has no time zone; append Z or an offset such as +02:00")
    return moment


def _from_file(path: Path, schema: Schema, label: str | None, anomaly: Sequence[str], max_rows: int) -> History:
    stamp = schema.timestamp.field if schema.timestamp else None
    bookkeeping = _bookkeeping(schema)
    there = find_columns(path, [*bookkeeping, *([label] if label else [])])
    columns = read_sample(path, 1).columns
    if label is not None and label not in there:
        raise ConfigError("--label", f"{path} has no column {label!r}; it has {', '.join(columns)}")
    if label in schema.feature_names:
        raise ConfigError(
            "--label", f"{label!r} is a feature in the schema too, so the model would learn it; remove it there"
        )
    extra = [column for column in (label, stamp) if column is not None and column in there]
    frame = read_features(path, schema, extra).tail(max_rows)
    times = None
    if stamp in there and schema.timestamp:
        times = parse_times(frame.get_column(stamp), schema.timestamp, str(path))
    labels = frame.get_column(label) if label else None
    used = {*schema.feature_names, *bookkeeping, label}
    return History(
        frame=frame.select(schema.feature_names),
        source=str(path),
        times=times,
        labels=None if labels is None else parse_labels(labels, anomaly),
        unmatched=() if labels is None else labels_of_no_row(labels, anomaly),
        ignored=tuple(column for column in columns if column not in used),
        absent=tuple(field for field in bookkeeping if field not in there),
    )


def _bookkeeping(schema: Schema) -> list[str]:
    """The fields beside the features that the schema names."""
    stamp = schema.timestamp.field if schema.timestamp else None
    return [field for field in (schema.id, schema.key, stamp) if field is not None]


def parse_times(values: pl.Series, timestamp: Timestamp, where: str) -> NDArray[np.float64]:
    """Seconds since 1970, float64 (n,).

    Raises:
        ConfigError: a value that is no time, or one without a zone when the schema gives none.
    """
    if timestamp.format != "iso8601":
        unit = 1.0 if timestamp.format == "epoch_s" else 1000.0
        seconds = values.cast(pl.Float64, strict=False) / unit
        broken = ~seconds.is_finite().fill_null(False)
        if broken.any():
            row = int(broken.arg_max() or 0)
            raise ConfigError(
                where,
                f"column {timestamp.field!r}, row {row + 1}: {values[row]!r} is not a number of {timestamp.format}",
            )
        return seconds.to_numpy()
    return np.array(
        [
            _parse_time(value, timestamp, f"{where}: column {timestamp.field!r}, row {row + 1}")
            for row, value in enumerate(values)
        ]
    )


def _parse_time(value: Any, timestamp: Timestamp, where: str) -> float:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ConfigError(where, f"{value!r} is not an ISO 8601 time") from error
    if moment.tzinfo is None:
        if timestamp.timezone is None:
            raise ConfigError(
                where, f"{value!r} has no time zone; set timezone in the [timestamp] table of features.toml"
            )
        moment = moment.replace(tzinfo=ZoneInfo(timestamp.timezone))
    return moment.timestamp()


def _from_topic(topic: str, window: TimeRange, schema: Schema, settings: Settings, max_rows: int) -> History:
    records = read_topic(topic, settings, window=window, last=max_rows)
    if not records:
        raise ConfigError(f"topic {topic!r}", "holds no records in this range")
    decoder = decoder_for(Decoder(schema, settings.max_record_bytes), settings)
    decoded = decoder.decode([record.value for record in records])
    if not len(decoded.rows):
        raise ConfigError(
            f"topic {topic!r}", f"none of {len(records)} records fits the schema; the first: {decoded.invalid[0][1]}"
        )
    return History(
        frame=decoded.frame,
        source=f"topic {topic}",
        times=_event_times(records, decoded, schema),
        absent=_absent_fields(decoded, schema),
        invalid=Counter(reason.reason for _, reason in decoded.invalid),
    )


def _absent_fields(decoded: Decoded, schema: Schema) -> tuple[str, ...]:
    documents = [decoded.documents[row] for row in decoded.rows]
    if None in documents:  # packed numbers have no other fields
        return ()
    return tuple(field for field in _bookkeeping(schema) if all(_at(one or b"", field) is None for one in documents))


def _event_times(records: list[Any], decoded: Decoded, schema: Schema) -> NDArray[np.float64]:
    """The good records' own times where the schema names them and all can be read, else Kafka's."""
    kafka_times = np.array([records[row].timestamp / 1000 for row in decoded.rows])
    if schema.timestamp is None:
        return kafka_times
    values = [_at(decoded.documents[row] or b"", schema.timestamp.field) for row in decoded.rows]
    if any(value is None for value in values):
        return kafka_times
    return parse_times(pl.Series(values, strict=False), schema.timestamp, "records")


def _at(value: bytes, path: str) -> Any:
    content: Any = msgspec.json.decode(value)
    for part in path.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def describe_window(times: NDArray[np.float64] | None) -> tuple[str | None, str | None]:
    """First and last time as ISO 8601 text, in the years 1 to 9999; None where unknown."""
    if times is None or not len(times):
        return None, None
    first, last = (
        datetime.fromtimestamp(float(np.clip(moment, *_WRITABLE_S)), tz=UTC).isoformat(timespec="seconds")
        for moment in (times.min(), times.max())
    )
    return first, last
