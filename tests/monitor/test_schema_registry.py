"""The client of the schema registry: what it asks, how it logs in, what it makes of every kind of answer, how the daemon waits."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from monitor.encodings.schema_registry import Reference, SchemaRegistry, SchemaRegistryError
from monitor.encodings.waiting import WAITING_REASON, Waiting
from monitor.errors import ConfigError
from monitor.settings import Settings, load_settings
from monitor.stream.sink import DeliveryAbortedError
from tests.kafka_broker import free_port
from tests.schema_registry import SchemaRegistryServer


@pytest.fixture
def server() -> Iterator[SchemaRegistryServer]:
    with SchemaRegistryServer() as running:
        running.register("a/b c", '"double"')
        yield running


def client(url: str, **changes: Any) -> SchemaRegistry:
    return SchemaRegistry(Settings.model_validate({"schema_registry_url": url} | changes))


def test_a_schema_is_found_by_its_id_and_by_subject_and_version(server: SchemaRegistryServer) -> None:
    asking = client(server.url + "/")
    for found in (asking.schema(1), asking.referenced(Reference("double", "a/b c", 1))):
        assert found is not None
        assert (found.type, found.text, found.references) == ("AVRO", '"double"', ())
    assert server.asked == ["/schemas/ids/1", "/subjects/a%2Fb%20c/versions/1"]


def test_what_the_registry_does_not_know_is_none_by_id_and_an_error_as_a_reference(
    server: SchemaRegistryServer,
) -> None:
    asking = client(server.url)
    assert asking.schema(2) is None
    assert asking.schema(-1) is None
    for reference, subject in ((Reference("x", "a/b c", 2), "a/b c"), (Reference("x", "other", 1), "other")):
        with pytest.raises(SchemaRegistryError, match=rf"lacks version {reference.version} of subject '{subject}'"):
            asking.referenced(reference)


@pytest.mark.parametrize(
    ("login", "header"),
    [
        ({"schema_registry_username": "u", "schema_registry_password": "p:ä"}, b"u:p:\xc3\xa4"),
        ({"schema_registry_token": "abc.def"}, None),
    ],
)
def test_it_logs_in_by_user_and_password_or_by_token(
    server: SchemaRegistryServer, login: dict[str, str], header: bytes | None
) -> None:
    basic = "" if header is None else f"Basic {base64.b64encode(header).decode()}"
    server.authorization = basic or "Bearer abc.def"
    assert client(server.url, **login).schema(1) is not None
    with pytest.raises(SchemaRegistryError, match=r"answers /schemas/ids/1 with 401 Unauthorized") as error:
        client(server.url).schema(1)
    assert error.value.exit_code == 5
    assert str(error.value).startswith(f"schema registry at {server.url}: ")


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server that is no schema registry."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{other.server_port}"
        finally:
            other.shutdown()


def reply(status: int, content: bytes, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (reply(404, b"<html>nginx</html>"), "answers /schemas/ids/1 with 404 Not Found"),
        (reply(404, b'{"error_code": 404, "message": "HTTP 404 Not Found"}'), "answers /schemas/ids/1 with 404"),
        (reply(500, b""), "answers /schemas/ids/1 with 500"),
        (reply(200, b"<html>"), "answers /schemas/ids/1 with something else than a schema"),
        (reply(200, b'{"schema": 7}'), "answers /schemas/ids/1 with something else than a schema"),
        (reply(200, b'{"schema": "\xff"}'), "answers /schemas/ids/1 with something else than a schema"),
        (lambda handler: handler.wfile.write(b"SSH-2.0\r\n"), "cannot be reached: SSH-2.0"),
        (lambda handler: None, "cannot be reached: "),
    ],
)
def test_every_other_answer_is_one_clear_error(answer: Callable[[BaseHTTPRequestHandler], None], told: str) -> None:
    with answering(answer) as url, pytest.raises(SchemaRegistryError) as error:
        client(url).schema(1)
    assert str(error.value).startswith(f"schema registry at {url}: {told}")
    assert "\n" not in str(error.value)


def test_a_redirect_is_not_followed_so_that_the_login_stays_where_it_belongs(server: SchemaRegistryServer) -> None:
    elsewhere = reply(302, b"", Location=f"{server.url}/schemas/ids/1")
    with answering(elsewhere) as url, pytest.raises(SchemaRegistryError, match="with 302 Found"):
        client(url, schema_registry_token="secret").schema(1)  # noqa: S106
    assert server.asked == []


def test_a_registry_that_is_away_or_silent_is_one_clear_error() -> None:
    with pytest.raises(SchemaRegistryError, match=r"cannot be reached: .*refused"):
        client(f"http://127.0.0.1:{free_port()}").schema(1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(SchemaRegistryError, match="cannot be reached: timed out"):
            client(f"http://127.0.0.1:{silent.getsockname()[1]}", schema_registry_timeout_s=0.2).schema(1)
        assert time.monotonic() - started < 3


def test_the_daemon_waits_for_a_registry_that_is_away_and_says_so_once() -> None:
    told: list[tuple[str, bool]] = []
    failures = iter([True, True, False])

    def ask() -> Any:
        if next(failures):
            raise SchemaRegistryError("http://r", "is away")
        return str

    assert Waiting(threading.Event(), lambda *what: told.append(what))(ask) is str
    assert told == [(WAITING_REASON, True), (WAITING_REASON, False)]


def test_waiting_ends_when_the_daemon_stops() -> None:
    abort = threading.Event()
    asked = []

    def ask() -> Any:
        asked.append(abort.set())
        raise SchemaRegistryError("http://r", "is away")

    waiting = Waiting(abort, lambda *_: None)
    for _ in range(2):
        with pytest.raises(DeliveryAbortedError):
            waiting(ask)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"schema_registry_url": "registry:8081"}, "schema_registry_url"),
        ({"schema_registry_url": "http://user:pw@registry"}, "schema_registry_url"),
        ({"schema_registry_username": "u"}, "schema_registry_username and schema_registry_password belong together"),
        (
            {"schema_registry_username": "u", "schema_registry_password": "p", "schema_registry_token": "t"},
            "set only one of them",
        ),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_settings(env={}, flags=given)


@pytest.mark.parametrize("key", ["schema_registry_password", "schema_registry_token"])
def test_its_secrets_are_shown_nowhere(key: str) -> None:
    settings = Settings.model_validate({key: "hush", "schema_registry_username": "u" if "pass" in key else None})
    assert "hush" not in f"{settings!r} {settings.model_dump()} {settings.model_dump_json()}"
    with pytest.raises(ConfigError) as error:
        load_settings(env={}, flags={key: ["hush"]})
    assert "hush" not in str(error.value)


def test_an_authority_that_cannot_be_read_is_a_problem_of_the_settings() -> None:
    with pytest.raises(ConfigError, match=r"schema_registry_cafile absent.pem: cannot be used: No such file"):
        client("https://registry", schema_registry_cafile="absent.pem")
