"""Connections to Kafka: options common to all clients, what the broker must offer, and the border where its errors become ours."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from monitor.errors import BrokerError, ConfigError
from monitor.settings import Settings
from monitor.stream.diagnosis import Way, why_unreachable
from monitor.stream.tls import tls_context
from monitor.stream.token_command import token_provider

log = logging.getLogger(__name__)

_UNKNOWN_TOPIC = 3
_TOPIC_FORBIDDEN = 29


def client_options(settings: Settings) -> dict[str, Any]:
    """Options that consumer, producer and admin client share.

    Raises:
        ConfigError: a server without a usable port, a file for TLS or a token command that cannot be used, or no C
            implementation of CRC-32C, without which a record costs ten times as much.
        BrokerError: the token command gives no token.
    """
    _require_fast_checksums()
    options: dict[str, Any] = {
        "bootstrap_servers": [
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in _servers(settings)
        ],
        "client_id": f"ganwatch-{settings.group_id}",
        "bootstrap_timeout_ms": int(settings.broker_timeout_s * 1000),
        "security_protocol": settings.security_protocol,
        "reconnect_backoff_max_ms": 2000,
    }
    if settings.kafka_api_version is not None:
        options["api_version"] = tuple(int(part) for part in settings.kafka_api_version.split("."))
    tls = tls_context(settings)
    if tls is not None:
        options["ssl_context"] = tls
    return options | _login_options(settings)


def _login_options(settings: Settings) -> dict[str, Any]:
    if settings.sasl_mechanism == "OAUTHBEARER":
        return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": token_provider(settings)}
    if settings.sasl_mechanism is None or settings.sasl_password is None:
        return {}
    return {
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": settings.sasl_password.get_secret_value(),
    }


def _servers(settings: Settings) -> list[tuple[str, int]]:
    """Hosts and ports of `bootstrap_servers`; a host alone has Kafka's usual port.

    Raises:
        ConfigError: names the entry that is neither.
    """
    from kafka.cluster import get_ip_port_afi

    servers = []
    for server in settings.bootstrap_servers.split(","):
        try:
            host, port, _ = get_ip_port_afi(server.strip())
        except ValueError:
            host, port = "", 0
        if not host or not 0 < port < 65536:
            raise ConfigError("bootstrap_servers", f"expects host:port, comma-separated, got {server.strip()!r}")
        servers.append((host, port))
    return servers


def _require_fast_checksums() -> None:
    try:
        import crc32c  # noqa: F401 - kafka-python finds it by itself
    except ImportError as error:
        raise ConfigError(
            "installation", "the package crc32c is missing; install ganwatch anew or `pip install crc32c`"
        ) from error


@contextmanager
def broker_errors(settings: Settings, doing: str) -> Iterator[None]:
    """Turns what kafka-python raises into a BrokerError that says what we were doing.

    Raises:
        BrokerError: instead of any error of the client library.
    """
    from kafka.errors import KafkaError

    try:
        yield
    except KafkaError as error:
        if _is_about_bootstrap(error):
            way = Way(
                settings.security_protocol, tls_context(settings), settings.ssl_certfile, _login_options(settings)
            )
            reason = why_unreachable(_servers(settings), way)
            waited = f"{doing}: no connection within broker_timeout_s = {settings.broker_timeout_s:g} seconds"
            raise BrokerError(settings.bootstrap_servers, f"{waited}: {reason}") from error
        raise BrokerError(settings.bootstrap_servers, f"{doing}: {describe_kafka_error(error)}") from error
    except OSError as error:  # certificates that cannot be read, addresses that cannot be resolved
        raise BrokerError(settings.bootstrap_servers, f"{doing}: {error}") from error


def describe_kafka_error(error: Exception) -> str:
    """What happened, in words, with the remedy where there is a usual one."""
    from kafka import errors

    if _is_about_bootstrap(error):
        return "no broker answered; check bootstrap_servers, security_protocol and that the broker is up"
    if isinstance(error, errors.SaslAuthenticationFailedError | errors.UnsupportedSaslMechanismError):
        return f"the broker refused the login; check the settings sasl_… ({error})"
    if isinstance(error, errors.TopicAuthorizationFailedError):
        return f"this user may not use the topic; grant it in the broker's access rules ({error})"
    if isinstance(error, errors.GroupAuthorizationFailedError):
        return f"this user may not use the consumer group; grant Read on it ({error})"
    return f"{type(error).__name__}: {error}" if type(error).__name__ not in str(error) else str(error)


def _is_about_bootstrap(error: Exception) -> bool:
    """Whether no connection to any broker came about; the library says so in the text only."""
    from kafka.errors import KafkaTimeoutError

    return isinstance(error, KafkaTimeoutError) and "bootstrap" in str(error).lower()


@dataclass(frozen=True)
class Cluster:
    """Identity of what alerts point into.

    Attributes:
        id: of the cluster; empty where the broker gives none.
        topic_id: of the features topic; empty where the broker gives none.
    """

    id: str
    topic_id: str


def inspect_cluster(
    settings: Settings, required: tuple[str, ...], identified: str, needed: Mapping[str, str] | None = None
) -> Cluster:
    """Checks that the topics exist, creating the missing ones if `create_topics` says so, and what we may do with them.

    Args:
        settings: connection and topic settings.
        required: topics that must exist.
        identified: the one whose id is wanted.
        needed: by topic the right we need on it, "READ" or "WRITE", beside that to see it; checked where the broker tells
            our rights.

    Raises:
        BrokerError: no broker, no access, or a missing topic.
    """
    from kafka import KafkaAdminClient

    wanted = dict.fromkeys(required, "DESCRIBE") | dict(needed or {})
    with broker_errors(settings, "connecting"):
        admin = KafkaAdminClient(**client_options(settings))
    try:
        with broker_errors(settings, "looking up the topics"):
            found = {topic["name"]: topic for topic in admin.describe_topics(list(required))}
            _refuse_without_right(settings, found, wanted)
            missing = [
                name for name in required if found.get(name, {}).get("error_code", _UNKNOWN_TOPIC) == _UNKNOWN_TOPIC
            ]
            if missing and settings.create_topics:
                _create_topics(admin, settings, missing)
                found |= {topic["name"]: topic for topic in admin.describe_topics(missing)}
            elif missing:
                names = ", ".join(repr(name) for name in missing)
                raise BrokerError(
                    settings.bootstrap_servers, f"no topic {names}; create it, or start with --create-topics"
                )
            _refuse_without_right(settings, found, wanted)
            return Cluster(id=str(admin.describe_cluster()["cluster_id"] or ""), topic_id=_topic_id(found[identified]))
    finally:
        admin.close()


def _topic_id(topic: dict[str, Any]) -> str:
    """The id as text; brokers older than 2.8 give none, or all zeros."""
    text = str(topic.get("topic_id") or "")
    return "" if set(text) <= {"0", "-"} else text


def _refuse_without_right(settings: Settings, found: dict[str, dict[str, Any]], wanted: Mapping[str, str]) -> None:
    """Brokers older than 2.3 tell no rights; a topic that we may see comes with one at least where they do."""
    lacking = [f"{right.title()} on topic {name!r}" for name, right in wanted.items() if not _has(found[name], right)]
    if lacking:
        raise _refused(settings, ", ".join(lacking))


def _has(topic: dict[str, Any], right: str) -> bool:
    """Who has no right at all on a topic is not even told whether it exists."""
    return topic["error_code"] != _TOPIC_FORBIDDEN and right in (topic.get("authorized_operations") or [right])


def _refused(settings: Settings, rights: str) -> BrokerError:
    return BrokerError(settings.bootstrap_servers, f"this user lacks the right to {rights}; grant it")


def _create_topics(admin: Any, settings: Settings, names: list[str]) -> None:
    from kafka.admin import NewTopic
    from kafka.errors import TopicAlreadyExistsError, TopicAuthorizationFailedError

    for name in names:
        topic = NewTopic(name, settings.new_topic_partitions, settings.new_topic_replication)
        try:
            admin.create_topics([topic], wait_for_metadata=True)
            log.info("topic_created", extra={"topic": name, "partitions": settings.new_topic_partitions})
        except TopicAlreadyExistsError:  # another replica was faster
            continue
        except TopicAuthorizationFailedError as error:
            raise _refused(settings, f"Create on topic {name!r}") from error
