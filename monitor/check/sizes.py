"""Whether alerts and dead letters fit their topics, found by writing the alerts of real records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from monitor.alerting.alert import AlertWriter, Flagged, without_payload
from monitor.check.model import CheckedModel
from monitor.check.trials import Trials
from monitor.errors import BrokerError
from monitor.model.decision import decision_threshold
from monitor.model.detection import detect, explain, imputed_features
from monitor.settings import Settings
from monitor.stream.broker import Cluster, broker_errors
from monitor.stream.records import Record

# What Kafka adds to a message: the header of its batch, lengths, the key.
OVERHEAD_BYTES = 250
_DEFAULT_LIMIT = 1_048_588


def try_sizes(trials: Trials, admin: Any, settings: Settings, model: CheckedModel, records: Sequence[bytes]) -> None:
    """Alerts against the alert topic's limit, dead letters against that of theirs."""
    topic = settings.alerts_topic
    sizes = alert_sizes(model, settings, [*model.golden, *records])
    trials.attempt(
        "size of alerts",
        lambda: _compare(settings, _limit(admin, settings, topic), sizes),
        remedy=f"raise max.message.bytes of topic {topic} (and the brokers' message.max.bytes), or lower attribution_top_k",
    )
    trials.attempt(
        "size of dead letters",
        lambda: _compare_letters(admin, settings),
        remedy=f"grant Describe on topic {settings.dead_letters_topic}",
    )


def alert_sizes(model: CheckedModel, settings: Settings, records: Sequence[bytes]) -> tuple[int, int]:
    """Bytes of the largest alert that these records could lead to, with payload and without."""
    alerts = _write_alerts(model, settings, records)
    payload = max(len(alert) for alert in alerts) if settings.alert_payload else 0
    bare = max(len(without_payload(alert)) for alert in alerts)
    return max(payload, bare), bare


def _write_alerts(model: CheckedModel, settings: Settings, values: Sequence[bytes]) -> list[bytes]:
    """The alert of each record that can be scored, as if it were flagged."""
    bundle = model.bundle
    decoded = bundle.decoder(settings.max_record_bytes).decode(values)
    rows = np.arange(len(decoded.rows), dtype=np.intp)
    found = detect(bundle, decoded.frame, np.zeros(len(rows)))
    topic = settings.features_topic
    flagged = Flagged(
        records=[Record(topic, 0, 2**40 + row, 0, None, values[row]) for row in decoded.rows],
        score=found.score.tolist(),
        p_value=found.p_value.tolist(),
        raw_score=found.raw_score.tolist(),
        attribution=explain(bundle, decoded.frame, found, rows, settings.attribution_top_k),
        imputed=[imputed_features(bundle, found.missing, int(row)) for row in rows],
    )
    threshold = decision_threshold(settings, bundle.calibration)
    writer = AlertWriter.for_bundle(bundle, Cluster("", ""), threshold, with_payload=settings.alert_payload)
    return [alert.to_json() for alert in writer.write(flagged, detected_at=_epoch())]


def _epoch() -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(0, UTC)


def _compare(settings: Settings, limit: int | None, sizes: tuple[int, int]) -> tuple[bool, str]:
    """Whether the largest alerts fit.

    Raises:
        BrokerError: not even without their payload, so delivery would wait for ever.
    """
    largest, bare = (size + OVERHEAD_BYTES for size in sizes)
    if limit is None:
        return (
            True,
            f"up to {largest:,} bytes; the broker does not tell the topic's limit, by default {_DEFAULT_LIMIT:,}",
        )
    if bare > limit:
        raise BrokerError(
            settings.bootstrap_servers,
            f"an alert takes up to {bare:,} bytes without its payload, but topic {settings.alerts_topic!r} takes {limit:,}; "
            "alerts of such records could never be delivered",
        )
    if largest > limit:
        return True, f"up to {largest:,} bytes; those above the topic's {limit:,} go without payload ({bare:,} bytes)"
    return True, f"up to {largest:,} bytes, the topic takes {limit:,}"


def _compare_letters(admin: Any, settings: Settings) -> tuple[bool, str]:
    letters, features = (
        _limit(admin, settings, topic) for topic in (settings.dead_letters_topic, settings.features_topic)
    )
    if letters is None or features is None:
        return True, "the broker does not tell the topics' limits"
    if letters < features + OVERHEAD_BYTES:
        return True, (
            f"records above about {max(0, letters - 2 * OVERHEAD_BYTES):,} bytes become dead letters without their value, "
            f"which cannot be requeued; {settings.features_topic} takes {features:,} bytes"
        )
    return True, f"every record of {settings.features_topic} fits ({features:,} bytes)"


def _limit(admin: Any, settings: Settings, topic: str) -> int | None:
    """`max.message.bytes` of a topic; None without the right DescribeConfigs."""
    from kafka.admin import ConfigResource, ConfigResourceType

    name = "max.message.bytes"
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={name: None})
    with broker_errors(settings, f"asking for the limits of topic {topic!r}"):
        answer = admin.describe_configs([resource], config_filter="all")
    found = answer.get("topic", {}).get(topic, {}).get(name)
    return None if found is None else int(found["value"])
