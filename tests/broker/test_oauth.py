"""SASL OAUTHBEARER with a token command, on a real Kafka.

The broker's validator is its own one for development, which takes an unsecured token at its word; what is proved is our side:
where the token comes from, when the next one is asked for, and what a refused one leads to.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.conftest import Stream
from tests.broker.guarded import refusal, stream_on
from tests.kafka_broker import KafkaBroker
from tests.machines import as_json, readings
from tests.tokens import unsecured_token
from tests.topics import publish, read_alerts

pytestmark = pytest.mark.broker

LIFE_S = 3
_MODULE = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required"
_PROPERTIES = {
    "listener.name.token.sasl.enabled.mechanisms": "OAUTHBEARER",
    "listener.name.token.oauthbearer.sasl.jaas.config": f'{_MODULE} unsecuredLoginStringClaim_sub="broker";',
    # The broker ends a connection whose token has expired, unless it logged in with a new one before.
    "listener.name.token.oauthbearer.connections.max.reauth.ms": "3600000",
}
# Prints a token that is good for a few seconds, with the caller's place among all calls in it.
_GIVE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from tests.tokens import unsecured_token
with open("calls", "a") as calls:
    calls.write("x")
print(unsecured_token("ganwatch", time.time(), float(sys.argv[2])))
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("token"), _PROPERTIES, {"TOKEN": "SASL_PLAINTEXT"}) as broker:
        yield broker


@pytest.fixture
def stream(broker: KafkaBroker, machines_folder: Path) -> Stream:
    return stream_on(broker, machines_folder)


def login(broker: KafkaBroker, folder: Path, code: str, *arguments: object) -> dict[str, object]:
    """Settings of a daemon that gets its tokens from a script with this code."""
    script = folder / "give_token.py"
    script.write_text(code)
    return {
        "bootstrap_servers": broker.address("TOKEN"),
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_token_command": " ".join(map(str, (sys.executable, script, *arguments))),
    }


def giving(broker: KafkaBroker, folder: Path, life_s: float = LIFE_S) -> dict[str, object]:
    return login(broker, folder, _GIVE, Path(__file__).parents[2], life_s)


def n_calls(stream: Stream) -> int:
    return len((stream.folder / "calls").read_text())


def test_the_daemon_logs_in_again_with_a_new_token_before_the_old_one_expires(
    broker: KafkaBroker, stream: Stream
) -> None:
    publish(broker.bootstrap, stream.features, as_json(readings(100, seed=20, anomalies=10)))
    with stream.daemon(**giving(broker, stream.folder), log_level="debug") as daemon:
        daemon.wait_until_done(100)
        first = n_calls(stream)
        time.sleep(2 * LIFE_S)
        publish(broker.bootstrap, stream.features, as_json(readings(100, seed=21, anomalies=10)))
        daemon.wait_until_done(200)
        assert n_calls(stream) >= first + 4  # consumer and producer, twice each
        assert daemon.stop()[0] == 0
    assert len(read_alerts(broker.bootstrap, stream.alerts)) >= 15
    assert "waiting_for_broker" not in daemon.output()
    header = unsecured_token("", 0, 0).partition(".")[0]
    assert header not in daemon.output()


def test_a_command_that_fails_for_a_while_makes_the_daemon_wait_not_end(broker: KafkaBroker, stream: Stream) -> None:
    with stream.daemon(**giving(broker, stream.folder, life_s=1.5)) as daemon:
        daemon.wait_until_ready()
        closed = 'import sys\nopen("calls", "a").write("x")\nsys.exit("the token service is closed")'
        login(broker, stream.folder, closed)
        daemon.wait_until(lambda: "the token service is closed" in daemon.output(), "told why")
        before = n_calls(stream)
        daemon.wait_until(lambda: daemon.get("/readyz")[0] == 503, "waiting")
        assert n_calls(stream) - before < 20  # it is not run in a tight loop
        publish(broker.bootstrap, stream.features, as_json(readings(50, seed=22, anomalies=0)))
        giving(broker, stream.folder)
        daemon.wait_until_done(50)
        daemon.wait_until(lambda: daemon.get("/readyz")[0] == 200, "ready again")
        assert daemon.stop()[0] == 0


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import sys; sys.exit('no ticket')", "sasl_token_command ended with 1: no ticket"),
        ("import time; time.sleep(60)", "sasl_token_command gave no token within broker_timeout_s = 1.5 seconds"),
        ("pass", "sasl_token_command printed nothing"),
    ],
)
def test_a_command_that_gives_no_token_is_one_clear_line(
    broker: KafkaBroker, stream: Stream, code: str, problem: str
) -> None:
    settings = login(broker, stream.folder, code)
    ended, line = refusal(stream.daemon(**settings))
    assert (ended, line) == (5, f"ganwatch: Kafka at {settings['bootstrap_servers']}: logging in: {problem}")


@pytest.mark.parametrize(
    "token", [unsecured_token("ganwatch", 1_700_000_000, 60), "planted-opaque-token-9Wb"], ids=["expired", "opaque"]
)
def test_a_token_that_the_broker_refuses_is_one_clear_line(broker: KafkaBroker, stream: Stream, token: str) -> None:
    settings = login(broker, stream.folder, f"print({token!r})")
    code, line = refusal(stream.daemon(**settings, log_level="debug"), secrets=[token])
    assert code == 5
    assert "refused the login" in line
    assert "check sasl_token_command" in line


def test_a_command_that_is_not_there_is_a_configuration_error(broker: KafkaBroker, stream: Stream) -> None:
    settings = login(broker, stream.folder, "pass") | {"sasl_token_command": "./give-no-token --secret hunter2-Zq9"}
    code, line = refusal(stream.daemon(**settings), secrets=["hunter2-Zq9"])
    assert (code, line) == (
        2, "ganwatch: sasl_token_command: cannot run './give-no-token': No such file or directory"
    )  # fmt: skip
