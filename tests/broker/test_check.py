"""`ganwatch check` against a real Kafka: it finds what is wrong with topics, rights, records and sizes, and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.broker.conftest import Stream
from tests.conftest import Kafka
from tests.kafka_broker import KafkaBroker
from tests.machines import as_json, readings
from tests.terminal import Terminal, flags_of, terminal_in
from tests.topics import committed, publish, read_all

pytestmark = pytest.mark.broker

PASSWORD = "planted-check-secret-5Kd"  # noqa: S105 - of the test's own broker
JAAS = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_guest="{PASSWORD}";'


@pytest.fixture
def terminal(stream: Stream, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    with terminal_in(stream.folder, capsys, monkeypatch) as terminal:
        terminal.flags = flags_of(stream.settings())
        yield terminal


def check(terminal: Terminal, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and the trials by what was tried."""
    outcome = terminal.run("check", "--json", *arguments)
    assert (outcome.err, outcome.json["exit_code"]) == ("", outcome.code)
    return outcome.code, {trial["what"]: trial for trial in outcome.json["trials"]}


def wrong(trials: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [what for what, trial in trials.items() if trial["state"] == "wrong"]


def configure(kafka: Kafka, topic: str, **configs: str) -> None:
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType

    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    values = {name.replace("_", "."): value for name, value in configs.items()}
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=values)])
    admin.close()


def test_all_is_well_where_a_daemon_could_start(terminal: Terminal, stream: Stream) -> None:
    publish(stream.kafka.bootstrap, stream.features, as_json(readings(150, seed=1)))
    code, trials = check(terminal)
    assert (code, wrong(trials)) == (0, [])
    assert {trial["state"] for trial in trials.values()} == {"ok"}
    assert trials["records"]["detail"] == "100 of the last 100 fit the schema"
    assert trials["size of alerts"]["detail"].endswith("bytes, the topic takes 1,048,588")
    outcome = terminal.run("check")
    assert outcome.out.splitlines()[-1] == "all is well: `ganwatch run` can start"
    assert all(line.startswith("ok ") for line in outcome.out.splitlines()[:-1])


def test_a_terminal_shows_a_table(terminal: Terminal, stream: Stream) -> None:
    terminal.monkeypatch.setenv("FORCE_COLOR", "1")  # which rich takes for a terminal
    outcome = terminal.run("check", "--features-topic", "absent")
    assert outcome.code == 5
    assert "to mend it: create it, or set create_topics" in outcome.out
    assert "│" in outcome.out


def test_it_writes_nothing_and_joins_no_group(terminal: Terminal, stream: Stream) -> None:
    from kafka import KafkaAdminClient

    publish(stream.kafka.bootstrap, stream.features, as_json(readings(20, seed=1)))
    assert check(terminal, "--set", "create_topics=true", "--alerts-topic", f"later-{stream.group}")[0] == 0
    assert len(read_all(stream.kafka.bootstrap, stream.features)) == 20
    assert read_all(stream.kafka.bootstrap, stream.dead_letters) == []
    assert committed(stream.kafka.bootstrap, stream.group, stream.features) == {0: None}
    admin = KafkaAdminClient(bootstrap_servers=stream.kafka.bootstrap)
    assert f"later-{stream.group}" not in admin.list_topics()
    assert stream.group not in {group["group_id"] for group in admin.list_groups()}
    admin.close()


def test_a_missing_topic_is_wrong_and_the_others_are_still_tried(terminal: Terminal, stream: Stream) -> None:
    code, trials = check(terminal, "--features-topic", "absent")
    assert (code, wrong(trials)) == (5, ["topic absent"])
    assert "no topic 'absent'" in trials["topic absent"]["detail"]
    assert "set create_topics" in trials["topic absent"]["remedy"]
    assert trials["records"]["state"] == "not tried"
    assert trials[f"right to write {stream.alerts}"]["state"] == "ok"


def test_records_of_another_schema_are_wrong(terminal: Terminal, stream: Stream) -> None:
    good = as_json(readings(70, seed=1))
    publish(stream.kafka.bootstrap, stream.features, [*good, *[b'{"other": "schema"}'] * 30])
    code, trials = check(terminal)
    assert (code, wrong(trials)) == (3, ["records"])
    assert "30 of the last 100 records are invalid" in trials["records"]["detail"]
    code, trials = check(terminal, "--set", "max_invalid_ratio=0.5")
    assert (code, wrong(trials)) == (0, [])
    assert trials["records"]["detail"] == "70 of the last 100 fit the schema; the others: 30 missing_field"


def test_an_alert_topic_that_takes_no_alert_is_wrong(terminal: Terminal, stream: Stream) -> None:
    configure(stream.kafka, stream.alerts, max_message_bytes="700")
    code, trials = check(terminal)
    assert (code, wrong(trials)) == (5, ["size of alerts"])
    assert "could never be delivered" in trials["size of alerts"]["detail"]
    assert f"raise max.message.bytes of topic {stream.alerts}" in trials["size of alerts"]["remedy"]


def test_alerts_that_lose_their_payload_and_letters_that_lose_their_value_are_told(
    terminal: Terminal, stream: Stream
) -> None:
    record = as_json(readings(1, seed=1))[0]
    publish(stream.kafka.bootstrap, stream.features, [record[:-1] + b', "note": "' + b"x" * 4000 + b'"}'])
    for topic in (stream.alerts, stream.dead_letters):
        configure(stream.kafka, topic, max_message_bytes="3000")
    code, trials = check(terminal)
    assert code == 0
    assert "go without payload" in trials["size of alerts"]["detail"]
    assert "cannot be requeued" in trials["size of dead letters"]["detail"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A Kafka that grants nobody anything that is not written down."""
    properties = {
        "listener.name.login.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.login.plain.sasl.jaas.config": JAAS,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "false",
    }
    folder = tmp_path_factory.mktemp("guarded")
    with KafkaBroker(folder, properties, {"LOGIN": "SASL_PLAINTEXT"}) as broker:
        yield broker


def grant(broker: KafkaBroker, kind: str, name: str, operation: str) -> None:
    from kafka import KafkaAdminClient
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    pattern = ResourcePattern(ResourceType[kind], name)
    admin.create_acls([ACL("User:guest", "*", ACLOperation[operation], ACLPermissionType.ALLOW, pattern)])
    admin.close()


def test_each_missing_right_is_named_with_the_command_that_grants_it(
    guarded: KafkaBroker, machines_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = Kafka(guarded.bootstrap)
    features, alerts, letters = (kafka.new_topic(stem) for stem in ("features", "alerts", "dead-letters"))
    settings: dict[str, object] = {
        "bootstrap_servers": guarded.address("LOGIN"),
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "guest",
        "sasl_password": PASSWORD,
        "features_topic": features,
        "alerts_topic": alerts,
        "dead_letters_topic": letters,
        "group_id": "watchers",
    }
    with terminal_in(machines_folder, capsys, monkeypatch) as terminal:
        terminal.flags = flags_of(settings)
        grant(guarded, "TOPIC", features, "DESCRIBE")
        grant(guarded, "TOPIC", alerts, "WRITE")
        code, trials = check(terminal)
        assert code == 5
        assert wrong(trials) == [f"right to read {features}", f"topic {letters}", "right to read group watchers"]
        assert "lacks the right to Read on topic" in trials[f"right to read {features}"]["detail"]
        assert trials[f"right to read {features}"]["remedy"] == (
            f"kafka-acls.sh --bootstrap-server {guarded.address('LOGIN')} --add --allow-principal User:guest "
            f"--operation Read --topic {features}"
        )
        assert "may not use the consumer group" in trials["right to read group watchers"]["detail"]
        for kind, name, operation in (
            ("TOPIC", features, "READ"),
            ("TOPIC", letters, "WRITE"),
            ("GROUP", "watchers", "READ"),
        ):
            grant(guarded, kind, name, operation)
        code, trials = check(terminal)
        assert (code, wrong(trials)) == (0, [])
        assert "the broker does not tell the topic's limit" in trials["size of alerts"]["detail"]
        terminal.flags += ("--set", "delivery=exactly_once", "--set", "group_instance_id=one")
        code, trials = check(terminal)
        assert (code, wrong(trials)) == (5, ["right to use transactional id watchers/one"])
        grant(guarded, "TRANSACTIONAL_ID", "watchers/one", "WRITE")
        code, trials = check(terminal)
        assert (code, wrong(trials)) == (0, [])
        terminal.flags = flags_of(settings | {"sasl_password": f"{PASSWORD}-wrong", "broker_timeout_s": 1.0})
        outcome = terminal.run_apart("check")
        assert outcome.code == 5
        assert "refused the login" in outcome.out
        assert PASSWORD not in outcome.out + outcome.err
