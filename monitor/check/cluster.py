"""Kafka as the daemon needs it: the broker answers, topics are there, rights are granted, records fit. Writes nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from monitor.check.model import CheckedModel
from monitor.check.trials import Trials
from monitor.encodings.record_decoder import decoder_for
from monitor.errors import BrokerError, TooManyInvalidRecords
from monitor.settings import Settings
from monitor.stream.broker import broker_errors, client_options
from monitor.stream.topic_reader import read_topic

SAMPLE_ROWS = 100
Answer = TypeVar("Answer")
# A coordinator may still be looked for when a cluster has just been started.
_COORDINATOR_S = 5.0
_UNKNOWN_TOPIC, _TOPIC_FORBIDDEN = 3, 29


def connect(settings: Settings) -> tuple[Any, str]:
    """An admin client, and words about the cluster.

    Raises:
        BrokerError, ConfigError: there is no way to it.
    """
    from kafka import KafkaAdminClient

    started = time.perf_counter()
    with broker_errors(settings, "connecting"):
        admin = KafkaAdminClient(**client_options(settings))
    try:
        with broker_errors(settings, "asking for the cluster"):
            cluster = admin.describe_cluster()
    except BrokerError:
        admin.close()
        raise
    n_brokers = len(cluster["brokers"])
    brokers = f"{n_brokers} broker{'s' if n_brokers > 1 else ''}"
    return admin, f"cluster {cluster['cluster_id']}, {brokers}, answers after {time.perf_counter() - started:.1f} s"


def try_topics(trials: Trials, admin: Any, settings: Settings) -> bool:
    """The topics, the rights on them and on the group; returns whether the features can be read."""
    usable = [_try_topic(trials, admin, settings, topic, right) for topic, right in settings.topic_rights.items()]
    group = settings.group_id
    trials.attempt(
        f"right to read group {group}",
        lambda: _try_group(admin, settings),
        remedy=_grant(settings, "READ", f"--group {group}"),
    )
    if settings.delivery == "exactly_once":
        transactional_id = f"{group}/{settings.group_instance_id}"  # as `TransactionalSink` calls it
        trials.attempt(
            f"right to use transactional id {transactional_id}",
            lambda: _try_transactional_id(admin, settings, transactional_id),
            remedy=_grant(settings, "WRITE", f"--transactional-id {transactional_id}"),
        )
    return usable[0]


def _try_topic(trials: Trials, admin: Any, settings: Settings, topic: str, right: str) -> bool:
    found = trials.attempt(
        f"topic {topic}",
        lambda: _describe_topic(admin, settings, topic),
        remedy=f"create it, or set create_topics; if it is there, check its name and grant {right.title()} on it",
    )
    what = f"right to {right.lower()} {topic}"
    if found is None:
        trials.leave([what], "there is no such topic")
        return False
    granted = trials.attempt(
        what,
        lambda: _require(settings, found["authorized_operations"] or None, right, f"topic {topic!r}"),
        remedy=_grant(settings, right, f"--topic {topic}"),
    )
    return bool(granted) and not found["error_code"]


def _describe_topic(admin: Any, settings: Settings, topic: str) -> tuple[dict[str, Any], str]:
    with broker_errors(settings, f"looking up topic {topic!r}"):
        (found,) = admin.describe_topics([topic])
    code = found["error_code"]
    if code == _UNKNOWN_TOPIC and settings.create_topics:
        return found, "missing; `ganwatch run` creates it (create_topics)"
    if code == _UNKNOWN_TOPIC:
        raise BrokerError(settings.bootstrap_servers, f"no topic {topic!r}")
    if code == _TOPIC_FORBIDDEN:
        raise BrokerError(settings.bootstrap_servers, f"no topic {topic!r}, or this user may not see it")
    leaderless = [str(part["partition_index"]) for part in found["partitions"] if part["leader_id"] < 0]
    if leaderless:
        raise BrokerError(
            settings.bootstrap_servers,
            f"topic {topic!r}: partition {', '.join(leaderless)} has no leader; a broker is down, or its disk is",
        )
    n_partitions = len(found["partitions"])
    return found, f"{n_partitions} partition{'s' if n_partitions > 1 else ''}"


def _require(settings: Settings, rights: list[str] | None, right: str, on: str) -> tuple[bool, str]:
    if rights is None:
        return True, "the broker does not tell rights"
    if right not in rights:
        raise BrokerError(settings.bootstrap_servers, f"this user lacks the right to {right.title()} on {on}")
    return True, "granted"


def _try_group(admin: Any, settings: Settings) -> tuple[bool, str]:
    with broker_errors(settings, f"looking up group {settings.group_id!r}"):
        group = _retried(lambda: admin.describe_groups([settings.group_id]))[settings.group_id]
    _, told = _require(settings, group["authorized_operations"] or None, "READ", f"group {settings.group_id!r}")
    n_members = len(group["members"])
    return True, f"{told}; {n_members} replica{'' if n_members == 1 else 's'} in it now"


def _try_transactional_id(admin: Any, settings: Settings, transactional_id: str) -> tuple[bool, str]:
    """Whether it may be seen, which Write on it allows; that is all that can be found out without using it."""
    from kafka.errors import TransactionalIdAuthorizationFailedError, TransactionalIdNotFoundError

    try:
        with broker_errors(settings, f"looking up transactional id {transactional_id!r}"):
            _retried(lambda: admin.describe_transactions([transactional_id]))
    except BrokerError as error:
        if isinstance(error.__cause__, TransactionalIdNotFoundError):
            return True, "granted; it was never used"
        if isinstance(error.__cause__, TransactionalIdAuthorizationFailedError):
            problem = f"this user may not use the transactional id {transactional_id!r}"
            raise BrokerError(settings.bootstrap_servers, problem) from error
        raise
    return True, "granted"


def _retried(ask: Callable[[], Answer]) -> Answer:
    from kafka.errors import RetriableError

    deadline = time.monotonic() + _COORDINATOR_S
    while True:
        try:
            return ask()
        except RetriableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _grant(settings: Settings, right: str, resource: str) -> str:
    """The command that grants a right, with what is known of it filled in."""
    return (
        f"kafka-acls.sh --bootstrap-server {settings.bootstrap_servers} --add "
        f"--allow-principal User:{settings.sasl_username or 'NAME'} --operation {right.title()} {resource}"
    )


def try_records(trials: Trials, settings: Settings, model: CheckedModel | None) -> list[bytes]:
    """Reads the last records of the features topic and decodes them; returns those that can be scored."""
    return (
        trials.attempt(
            "records",
            lambda: _read_records(settings, model),
            remedy=f"compare features.toml with `ganwatch init --from {settings.features_topic} --out seen.toml`",
        )
        or []
    )


def _read_records(settings: Settings, model: CheckedModel | None) -> tuple[list[bytes], str]:
    values = [record.value for record in read_topic(settings.features_topic, settings, last=SAMPLE_ROWS)]
    if not values:
        return [], "the topic is empty"
    if model is None:
        return [], f"the last {len(values)} can be read; whether they fit is not known without a model"
    decoded = decoder_for(model.bundle.decoder(settings.max_record_bytes), settings).decode(values)
    if decoded.invalid and len(decoded.invalid) > settings.max_invalid_ratio * len(values):
        raise TooManyInvalidRecords(
            topic=settings.features_topic,
            invalid=len(decoded.invalid),
            window=len(values),
            max_invalid_ratio=settings.max_invalid_ratio,
            example=decoded.invalid[-1][1],
        )
    reasons = Counter(reason.reason for _, reason in decoded.invalid)
    but = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    fit = [value for row in decoded.rows if (value := decoded.documents[row]) is not None]
    return fit, f"{len(fit)} of the last {len(values)} fit the schema" + (f"; the others: {but}" if but else "")
