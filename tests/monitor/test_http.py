"""The HTTP endpoints: three paths that tell the state and change nothing."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry, Counter

from monitor.errors import ConfigError
from monitor.telemetry import http as telemetry_http
from monitor.telemetry.http import TelemetryServer


@dataclass
class State:
    """What the probes answer from."""

    unhealthy: str | None = None
    not_ready: str | None = None


@dataclass
class Served:
    server: TelemetryServer
    state: State

    @property
    def place(self) -> tuple[str, int]:
        host, _, port = self.server.address.rpartition(":")
        return host, int(port)

    def get(self, path: str, method: str = "GET") -> tuple[int, str, dict[str, str]]:
        connection = http.client.HTTPConnection(*self.place, timeout=5)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), dict(answer.getheaders())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def running() -> Iterator[Served]:
    registry = CollectorRegistry()
    Counter("ganwatch_records_consumed", "Records read", registry=registry).inc(3)
    state = State()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telemetry_http, "REQUEST_TIMEOUT_S", 0.3)
        server = TelemetryServer(
            "127.0.0.1", 0, registry, healthy=lambda: state.unhealthy, ready=lambda: state.not_ready
        )
        server.start()
        yield Served(server, state)
        server.close()


@pytest.fixture
def served(running: Served) -> Served:
    running.state.unhealthy = running.state.not_ready = None
    return running


def test_metrics_are_served_in_prometheus_form(served: Served) -> None:
    status, body, headers = served.get("/metrics")
    assert status == 200
    assert "ganwatch_records_consumed_total 3.0\n" in body
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert int(headers["Content-Length"]) == len(body)


def test_probes_answer_200_and_503_with_the_reason(served: Served) -> None:
    assert served.get("/healthz")[:2] == (200, "ok\n")
    assert served.get("/readyz")[:2] == (200, "ok\n")
    served.state.not_ready = "waiting for broker"
    assert served.get("/readyz")[:2] == (503, "waiting for broker\n")
    assert served.get("/healthz")[:2] == (200, "ok\n")
    served.state.unhealthy = "the loop has not turned for 31 s"
    assert served.get("/healthz")[:2] == (503, "the loop has not turned for 31 s\n")


def test_a_query_string_changes_nothing(served: Served) -> None:
    assert served.get("/healthz?verbose=1")[0] == 200


@pytest.mark.parametrize("path", ["/", "/metrics/", "/Metrics", "/../etc/passwd", "/healthz/x", "/%6detrics"])
def test_any_other_path_is_404_with_a_hint(served: Served, path: str) -> None:
    assert served.get(path)[:2] == (404, "not found; try /metrics, /healthz or /readyz\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(served: Served, method: str) -> None:
    assert served.get("/metrics", method)[0] == 501


def test_the_answer_does_not_tell_the_python_version(served: Served) -> None:
    assert served.get("/healthz")[2]["Server"].strip() == "ganwatch"


def test_a_silent_client_is_dropped_and_holds_up_nobody(served: Served) -> None:
    silent = [socket.create_connection(served.place) for _ in range(20)]
    try:
        started = time.monotonic()
        assert served.get("/healthz")[0] == 200
        assert time.monotonic() - started < 2
        silent[0].settimeout(5)
        assert silent[0].recv(1) == b""
    finally:
        for connection in silent:
            connection.close()


def test_a_client_that_sends_a_byte_now_and_then_holds_no_thread_for_ever(served: Served) -> None:
    before = threading.active_count()
    with socket.create_connection(served.place) as slow:
        slow.settimeout(0.1)
        deadline = time.monotonic() + 10
        ended = False
        while not ended:
            assert time.monotonic() < deadline
            try:
                slow.sendall(b"x")  # each pause is shorter than the time-out
                ended = slow.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_client_that_hangs_up_leaves_no_trace_on_stderr(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        connection = socket.create_connection(served.place)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by reset
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        connection.close()
    assert served.get("/healthz")[0] == 200
    time.sleep(0.1)
    assert capfd.readouterr().err == ""


def test_garbage_instead_of_a_request_is_answered_with_400(served: Served) -> None:
    with socket.create_connection(served.place) as connection:
        connection.settimeout(5)
        connection.sendall(b"\x16\x03\x01 not http at all\r\n\r\n")
        assert b"400" in connection.recv(1000)
    assert served.get("/healthz")[0] == 200


def test_a_taken_port_is_a_configuration_error_that_names_it(served: Served) -> None:
    host, port = served.place
    with pytest.raises(ConfigError) as caught:
        TelemetryServer(host, port, CollectorRegistry(), healthy=lambda: None, ready=lambda: None)
    assert str(caught.value) == (
        f"http_host/http_port 127.0.0.1:{port}: cannot listen there: Address already in use; choose another http_port "
        "(0 takes a free one)"
    )


def test_an_address_that_is_not_ours_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"http_host/http_port 192\.0\.2\.1:0: cannot listen there: "):
        TelemetryServer("192.0.2.1", 0, CollectorRegistry(), healthy=lambda: None, ready=lambda: None)


def test_closing_frees_the_port_even_when_it_never_started() -> None:
    for start in (True, False):
        server = TelemetryServer("127.0.0.1", 0, CollectorRegistry(), healthy=lambda: None, ready=lambda: None)
        if start:
            server.start()
        host, _, port = server.address.rpartition(":")
        server.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=1)
