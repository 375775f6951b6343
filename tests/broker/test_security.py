"""TLS, client certificates and logins with a password, all through settings, on a real Kafka that asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.broker.conftest import Stream
from tests.broker.guarded import refusal, stream_on
from tests.certificates import Authority
from tests.kafka_broker import KafkaBroker
from tests.machines import as_json, readings
from tests.planted import found_in, plant
from tests.topics import publish, read_alerts

pytestmark = pytest.mark.broker

PASSWORD = "planted-sasl-secret-7Qx"  # noqa: S105 - of the test's own broker
KEY_PASSWORD = "planted-key-secret-3Zp"  # noqa: S105 - of the test's own key
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_PLAIN = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="{PASSWORD}";'


@dataclass(frozen=True)
class Secured:
    """A Kafka that asks who is there."""

    broker: KafkaBroker
    authority: Authority
    stranger: Authority
    client_files: tuple[Path, Path]

    def tls(self, listener: str = "TLS", host: str = "127.0.0.1") -> dict[str, object]:
        """Settings for TLS."""
        return {
            "bootstrap_servers": self.broker.address(listener, host),
            "security_protocol": "SSL",
            "ssl_cafile": self.authority.cafile,
        }

    def mutual(self, password: str = KEY_PASSWORD) -> dict[str, object]:
        """The same with a client certificate."""
        certificate, key = self.client_files
        return self.tls("MUTUAL") | {"ssl_certfile": certificate, "ssl_keyfile": key, "ssl_password": password}

    def sasl(self, mechanism: str, password: str = PASSWORD) -> dict[str, object]:
        """Settings for SASL over TLS."""
        login = {"sasl_mechanism": mechanism, "sasl_username": "alice", "sasl_password": password}
        return self.tls("LOGIN") | {"security_protocol": "SASL_SSL"} | login

    def sasl_without_tls(self) -> dict[str, object]:
        """Settings for SASL in the clear."""
        changed = {"bootstrap_servers": self.broker.address("CLEAR"), "security_protocol": "SASL_PLAINTEXT"}
        login = self.sasl("SCRAM-SHA-256") | changed
        return {name: value for name, value in login.items() if name != "ssl_cafile"}


def _properties(authority: Authority) -> dict[str, str]:
    """Listeners with TLS, with a certificate that expired yesterday, TLS both ways, and logins."""
    store = str(authority.server("127.0.0.1"))
    expired = str(authority.server("127.0.0.1", valid_days=-1))
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": store,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.cafile),
        "listener.name.expired.ssl.keystore.location": expired,
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.login.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.login.plain.sasl.jaas.config": _PLAIN,
        "listener.name.login.scram-sha-256.sasl.jaas.config": _SCRAM,
        "listener.name.login.scram-sha-512.sasl.jaas.config": _SCRAM,
        "listener.name.clear.sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "listener.name.clear.scram-sha-256.sasl.jaas.config": _SCRAM,
    }


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One broker for this file; its plain listener is the tests' own way in."""
    from kafka import KafkaAdminClient
    from kafka.admin import UserScramCredentialUpsertion

    folder = tmp_path_factory.mktemp("secured")
    authority, stranger = Authority(folder / "authority"), Authority(folder / "stranger")
    listeners = {"TLS": "SSL", "EXPIRED": "SSL", "MUTUAL": "SSL", "LOGIN": "SASL_SSL", "CLEAR": "SASL_PLAINTEXT"}
    with KafkaBroker(folder / "kafka", _properties(authority), listeners) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            user = UserScramCredentialUpsertion("alice", mechanism, PASSWORD)
            assert admin.alter_user_scram_credentials([user]) == {"alice": None}
        admin.close()
        yield Secured(broker, authority, stranger, authority.client("ganwatch", KEY_PASSWORD))


@pytest.fixture
def stream(secured: Secured, machines_folder: Path) -> Stream:
    """A stream on the secured broker."""
    return stream_on(secured.broker, machines_folder)


def refused(stream: Stream, settings: Mapping[str, object]) -> tuple[int, str]:
    """Exit code and last line of a daemon with these settings, which must not start."""
    return refusal(stream.daemon(**settings), secrets=[PASSWORD, KEY_PASSWORD])


def assert_no_secret(text: str) -> None:
    assert [secret for secret in (PASSWORD, KEY_PASSWORD) if secret in text] == []


CONNECTIONS = ["tls", "mutual", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "clear"]


def connection(secured: Secured, name: str) -> Mapping[str, object]:
    ways: dict[str, Callable[[], Mapping[str, object]]] = {
        "tls": secured.tls,
        "mutual": secured.mutual,
        "clear": secured.sasl_without_tls,
    }
    return ways[name]() if name in ways else secured.sasl(name)


@pytest.mark.parametrize("name", CONNECTIONS)
def test_records_come_in_and_alerts_go_out_over_a_secured_connection(
    secured: Secured, stream: Stream, name: str
) -> None:
    publish(stream.kafka.bootstrap, stream.features, as_json(readings(200, seed=20, anomalies=20)))
    daemon, planted = stream.daemon(**connection(secured, name), log_level="debug"), plant(stream.folder)
    daemon.environ |= planted
    with daemon:
        daemon.wait_until_done(200)
        scrape = daemon.get("/metrics")[1]
        assert daemon.stop()[0] == 0
    assert len(read_alerts(stream.kafka.bootstrap, stream.alerts)) >= 15
    assert "partitions_assigned" in daemon.output()
    for shown in (daemon.output(), scrape):
        assert_no_secret(shown)
        assert found_in(shown, planted) == []


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_wrong_password_is_one_clear_line(secured: Secured, stream: Stream, mechanism: str) -> None:
    settings = secured.sasl(mechanism, password=f"{PASSWORD}-wrong")
    code, line = refused(stream, settings)
    assert code == 5
    assert line.startswith(f"ganwatch: Kafka at {settings['bootstrap_servers']}: connecting: no connection")
    assert "refused the login" in line
    assert "check sasl_username and sasl_password" in line


def test_a_login_mechanism_that_the_broker_does_not_offer_is_one_clear_line(secured: Secured, stream: Stream) -> None:
    settings = secured.sasl_without_tls() | {"sasl_mechanism": "SCRAM-SHA-512"}
    code, line = refused(stream, settings)
    assert code == 5
    assert "offers no sasl_mechanism SCRAM-SHA-512, only SCRAM-SHA-256" in line


def test_an_untrusted_certificate_is_one_clear_line(secured: Secured, stream: Stream) -> None:
    code, line = refused(stream, secured.tls() | {"ssl_cafile": secured.stranger.cafile})
    assert code == 5
    assert secured.broker.address("TLS") in line
    assert "certificate that is not trusted" in line
    assert "check ssl_cafile" in line


def test_a_certificate_for_another_host_is_one_clear_line(secured: Secured, stream: Stream) -> None:
    code, line = refused(stream, secured.tls(host="localhost"))
    assert code == 5
    assert "shows a certificate for another host" in line
    assert "'localhost'" in line


def test_the_host_name_may_be_left_unchecked(secured: Secured, stream: Stream) -> None:
    with stream.daemon(**secured.tls(host="localhost"), ssl_check_hostname="false") as daemon:
        daemon.wait_until_ready()


def test_a_missing_client_certificate_is_one_clear_line(secured: Secured, stream: Stream) -> None:
    code, line = refused(stream, secured.tls("MUTUAL"))
    assert code == 5
    assert "refuses our certificate" in line
    assert "ssl_certfile" in line


def test_a_certificate_that_has_expired_is_one_clear_line(secured: Secured, stream: Stream) -> None:
    code, line = refused(stream, secured.tls("EXPIRED"))
    assert code == 5
    assert line.endswith(
        f"{secured.broker.address('EXPIRED')} shows a certificate that is not valid any more (certificate has expired); "
        "renew it, or check the clock here"
    )


def test_a_client_certificate_that_has_expired_is_one_clear_line(secured: Secured, stream: Stream) -> None:
    certificate, key = secured.authority.client("late", KEY_PASSWORD, valid_days=-1)
    code, line = refused(stream, secured.mutual() | {"ssl_certfile": certificate, "ssl_keyfile": key})
    assert code == 5
    yesterday = datetime.now(UTC) - timedelta(days=1)
    assert "refuses our certificate" in line
    assert f"; it expired on {yesterday:%Y-%m-%d} at " in line


def test_the_wrong_protocol_is_one_clear_line(secured: Secured, stream: Stream) -> None:
    address = secured.broker.address("TLS")
    code, line = refused(stream, {"bootstrap_servers": address})
    assert code == 5
    assert address in line
    assert "check security_protocol" in line


def test_a_key_that_cannot_be_opened_is_a_configuration_error(secured: Secured, stream: Stream) -> None:
    code, line = refused(stream, secured.mutual(password="other"))  # noqa: S106 - the wrong one, on purpose
    assert code == 2
    assert line.startswith("ganwatch: ssl_certfile, ssl_keyfile, ssl_password: cannot use ")
    assert str(secured.client_files[1]) in line


def test_a_missing_certificate_file_is_a_configuration_error(secured: Secured, stream: Stream) -> None:
    code, line = refused(stream, secured.tls() | {"ssl_cafile": "absent.pem"})
    assert code == 2
    assert line == "ganwatch: ssl_cafile: cannot use absent.pem: No such file or directory"


def test_an_incomplete_login_names_what_is_absent(secured: Secured, stream: Stream) -> None:
    settings = {name: value for name, value in secured.sasl("PLAIN").items() if name != "sasl_username"}
    code, line = refused(stream, settings)
    assert code == 2
    missing = "security_protocol SASL_SSL needs sasl_username (from command line: security_protocol)"
    assert line == f"ganwatch: settings: {missing}"
