"""The least rights that are enough for the daemon, on a real Kafka that grants nothing that no rule grants.

Read on the features topic and on the group, Write on alerts and dead letters; for exactly-once Write on the transactional id, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.broker.conftest import Stream
from tests.broker.guarded import refusal, stream_on
from tests.kafka_broker import KafkaBroker
from tests.machines import as_json, readings
from tests.topics import committed, publish, read_alerts, read_all

pytestmark = pytest.mark.broker

PASSWORD = "planted-sasl-secret-4Lm"  # noqa: S105 - of the test's own broker
_PROPERTIES = {
    "listener.name.login.sasl.enabled.mechanisms": "PLAIN",
    "listener.name.login.plain.sasl.jaas.config": (
        f'org.apache.kafka.common.security.plain.PlainLoginModule required user_monitor="{PASSWORD}";'
    ),
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "false",
    "super.users": "User:ANONYMOUS",  # the plain listener: the broker itself, and the tests
}
MODES: Mapping[str, dict[str, object]] = {
    "at_least_once": {},
    "exactly_once": {"delivery": "exactly_once", "group_instance_id": "replica-0"},
}


@dataclass(frozen=True)
class Right:
    """One rule: an operation on a resource, both in Kafka's words."""

    operation: str
    kind: str
    name: str


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("strict"), _PROPERTIES, {"LOGIN": "SASL_PLAINTEXT"}) as broker:
        yield broker


@pytest.fixture
def stream(broker: KafkaBroker, machines_folder: Path) -> Stream:
    return stream_on(broker, machines_folder)


def login(broker: KafkaBroker, delivery: str) -> dict[str, object]:
    return {
        "bootstrap_servers": broker.address("LOGIN"),
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "monitor",
        "sasl_password": PASSWORD,
    } | MODES[delivery]


def enough(stream: Stream, delivery: str) -> dict[str, Right]:
    """All that README asks for, by what it is for."""
    rights = {
        "features": Right("READ", "TOPIC", stream.features),
        "group": Right("READ", "GROUP", stream.group),
        "alerts": Right("WRITE", "TOPIC", stream.alerts),
        "dead letters": Right("WRITE", "TOPIC", stream.dead_letters),
    }
    if delivery == "exactly_once":
        rights["transactional id"] = Right("WRITE", "TRANSACTIONAL_ID", f"{stream.group}/replica-0")
    return rights


def grant(broker: KafkaBroker, *rights: Right) -> None:
    from kafka import KafkaAdminClient
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        for right in rights:
            resource = ResourcePattern(ResourceType[right.kind], right.name)
            rule = ACL("User:monitor", "*", ACLOperation[right.operation], ACLPermissionType.ALLOW, resource)
            assert admin.create_acls([rule])["failed"] == []
    finally:
        admin.close()


@pytest.mark.parametrize("delivery", MODES)
def test_these_rights_are_enough(broker: KafkaBroker, stream: Stream, delivery: str) -> None:
    grant(broker, *enough(stream, delivery).values())
    values = [*as_json(readings(150, seed=20, anomalies=20)), b"no record", None]
    publish(broker.bootstrap, stream.features, values)
    with stream.daemon(**login(broker, delivery)) as daemon:
        daemon.wait_until_done(152)
        daemon.wait_until(lambda: committed(broker.bootstrap, stream.group, stream.features)[0] == 152, "committed")
        assert daemon.stop()[0] == 0
    assert len(read_alerts(broker.bootstrap, stream.alerts)) >= 15
    assert len(read_all(broker.bootstrap, stream.dead_letters)) == 2


MISSING = [
    ("at_least_once", "features", "lacks the right to Read on topic {name!r}; grant it"),
    ("at_least_once", "alerts", "lacks the right to Write on topic {name!r}; grant it"),
    ("at_least_once", "dead letters", "lacks the right to Write on topic {name!r}; grant it"),
    ("at_least_once", "group", "may not use the consumer group; grant Read on it \\(.*{name}.*\\)"),
    ("exactly_once", "group", "may not use the consumer group; grant Read on it \\(.*{name}.*\\)"),
    ("exactly_once", "transactional id", "may not use the transactional id {name!r}; grant Write on it"),
]


@pytest.mark.parametrize(("delivery", "missing", "wanted"), MISSING)
def test_a_missing_right_is_one_clear_line_that_names_it(
    broker: KafkaBroker, stream: Stream, delivery: str, missing: str, wanted: str
) -> None:
    rights = enough(stream, delivery)
    absent = rights.pop(missing)
    grant(broker, *rights.values())
    settings = login(broker, delivery)
    code, line = refusal(stream.daemon(**settings), secrets=[PASSWORD])
    assert code == 5
    assert line.startswith(f"ganwatch: Kafka at {settings['bootstrap_servers']}: ")
    assert re.search(f"this user {wanted.format(name=absent.name)}$", line)


@pytest.mark.parametrize(("missing", "other", "wanted"), [("features", "WRITE", "Read"), ("alerts", "READ", "Write")])
def test_another_right_does_not_do_instead(
    broker: KafkaBroker, stream: Stream, missing: str, other: str, wanted: str
) -> None:
    rights = enough(stream, "at_least_once")
    absent = rights.pop(missing)
    grant(broker, *rights.values(), Right(other, absent.kind, absent.name))
    code, line = refusal(stream.daemon(**login(broker, "at_least_once")), secrets=[PASSWORD])
    assert code == 5
    assert line.endswith(f"this user lacks the right to {wanted} on topic {absent.name!r}; grant it")


def test_all_missing_rights_on_topics_are_named_at_once(broker: KafkaBroker, stream: Stream) -> None:
    code, line = refusal(stream.daemon(**login(broker, "at_least_once")), secrets=[PASSWORD])
    assert code == 5
    for right in ("features", "alerts", "dead letters"):
        absent = enough(stream, "at_least_once")[right]
        assert f"{absent.operation.title()} on topic {absent.name!r}" in line


def test_a_topic_is_not_made_without_the_right_to(broker: KafkaBroker, stream: Stream) -> None:
    rights = enough(stream, "at_least_once") | {"alerts": Right("WRITE", "TOPIC", f"{stream.alerts}-new")}
    grant(broker, *rights.values())
    settings = login(broker, "at_least_once") | {"alerts_topic": f"{stream.alerts}-new", "create_topics": "true"}
    code, line = refusal(stream.daemon(**settings), secrets=[PASSWORD])
    assert code == 5
    assert f"Create on topic '{stream.alerts}-new'" in line


def test_a_right_that_is_taken_away_is_waited_for(broker: KafkaBroker, stream: Stream) -> None:
    from kafka import KafkaAdminClient
    from kafka.admin import ACLFilter, ACLOperation, ACLPermissionType, ResourcePatternFilter, ResourceType
    from kafka.admin import ACLResourcePatternType as PatternType

    rights = enough(stream, "at_least_once")
    grant(broker, *rights.values())
    with stream.daemon(**login(broker, "at_least_once")) as daemon:
        daemon.wait_until_ready()
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        alerts = ResourcePatternFilter(ResourceType.TOPIC, stream.alerts, PatternType.LITERAL)
        rule = ACLFilter("User:monitor", "*", ACLOperation.WRITE, ACLPermissionType.ALLOW, alerts)
        admin.delete_acls([rule])
        admin.close()
        publish(broker.bootstrap, stream.features, as_json(readings(100, seed=21, anomalies=20)))
        waiting = 'ganwatch_waiting{reason="alerts"}'
        daemon.wait_until(lambda: daemon.metrics().get(waiting) == 1, "waiting for the topic")
        assert "may not use the topic" in daemon.output()
        grant(broker, rights["alerts"])
        daemon.wait_until_done(100)
        assert daemon.stop()[0] == 0
    assert len(read_alerts(broker.bootstrap, stream.alerts)) >= 15
