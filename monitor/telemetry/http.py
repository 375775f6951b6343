"""`/metrics`, `/healthz` and `/readyz` on one small HTTP server. Never anything that changes state."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from monitor.errors import ConfigError

log = logging.getLogger(__name__)

# For a request and its answer together, however slowly they trickle.
REQUEST_TIMEOUT_S = 10.0

# Answers a probe: None when all is well, else what is wrong.
Probe = Callable[[], str | None]


class _Server(ThreadingHTTPServer):
    """Ends connections that last too long; the time-out of a socket only limits the pause between two bytes."""

    daemon_threads = True
    request_queue_size = 64  # the default of 5 makes a scrape wait seconds behind a few connections opened at once

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._opened_at: dict[socket.socket, float] = {}
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._opened_at[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._opened_at.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called by the accepting thread between two connections, and every half second."""
        for request, opened_at in list(self._opened_at.items()):
            if time.monotonic() - opened_at > REQUEST_TIMEOUT_S:
                with suppress(OSError):  # it has just ended by itself
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        """A client that hangs up is its own affair; the base class would print a traceback past our logs."""
        log.debug("http_request_failed", extra={"client": str(client_address), "error": repr(sys.exc_info()[1])})


class TelemetryServer:
    """Serves the three paths from a daemon thread."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, *, healthy: Probe, ready: Probe) -> None:
        """Binds the port.

        Raises:
            ConfigError: the address cannot be bound.
        """
        try:
            self._server = _Server((host, port), _handler(registry, {"/healthz": healthy, "/readyz": ready}))
        except OSError as error:
            raise ConfigError(
                f"http_host/http_port {host}:{port}",
                f"cannot listen there: {error.strerror}; choose another http_port (0 takes a free one)",
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="ganwatch-http", daemon=True)

    @property
    def address(self) -> str:
        """host:port that it listens on."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def start(self) -> None:
        """Answers from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stops answering and frees the port."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def _handler(registry: CollectorRegistry, probes: dict[str, Probe]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_S
        server_version = "ganwatch"
        sys_version = ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
            elif path in probes:
                problem = probes[path]()
                self._answer(
                    200 if problem is None else 503, f"{problem or 'ok'}\n".encode(), "text/plain; charset=utf-8"
                )
            else:
                self._answer(404, b"not found; try /metrics, /healthz or /readyz\n", "text/plain; charset=utf-8")

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            log.debug("http_request", extra={"request": format % args})

    return Handler
