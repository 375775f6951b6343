"""A schema registry for tests: Confluent's REST interface as far as its own clients and ours use it, kept in memory.

The tests prove it with confluent-kafka's client and serialisers.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, dict[str, Any]]


class SchemaRegistryServer:
    """One registry on a loopback port; a context manager.

    Attributes:
        asked: paths of all GET requests so far.
        authorization: what the header of that name must be; None to let everybody in.
        fails: while true, every request is answered with 503.
    """

    def __init__(self, port: int = 0) -> None:
        self.asked: list[str] = []
        self.authorization: str | None = None
        self.fails = False
        self._schemas: list[dict[str, Any]] = []
        self._subjects: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler_of(self))

    def __enter__(self) -> SchemaRegistryServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def register(self, subject: str, text: str, kind: str = "AVRO", references: Any = ()) -> int:
        """Registers a schema; returns its id, which is that of the same schema under another subject."""
        schema = {"schemaType": kind, "schema": text, "references": list(references)}
        with self._lock:
            if schema not in self._schemas:
                self._schemas.append(schema)
            number = self._schemas.index(schema) + 1
            versions = self._subjects.setdefault(subject, [])
            if number not in versions:
                versions.append(number)
        return number

    def answer(self, method: str, target: str, body: dict[str, Any]) -> Answer:
        """What a request is answered with."""
        if self.fails:
            return 503, {"error_code": 50302, "message": "down for maintenance"}
        address = urlsplit(target)
        query = parse_qs(address.query)
        for wanted_method, pattern, action in _ROUTES:
            match = re.fullmatch(pattern, address.path)
            if match and method == wanted_method:
                return action(self, *map(unquote, match.groups()), query=query, body=body)
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _by_id(self, number: str, *, query: dict[str, list[str]], body: dict[str, Any]) -> Answer:
        if not 0 < int(number) <= len(self._schemas):
            return 404, {"error_code": 40403, "message": f"Schema {number} not found"}
        return 200, _shown(self._schemas[int(number) - 1], query)

    def _version(self, subject: str, version: str, *, query: dict[str, list[str]], body: dict[str, Any]) -> Answer:
        numbers = self._subjects.get(subject)
        if numbers is None:
            return 404, {"error_code": 40401, "message": f"Subject {subject!r} not found"}
        place = len(numbers) if version == "latest" else int(version)
        if not 0 < place <= len(numbers):
            return 404, {"error_code": 40402, "message": f"Version {version} not found"}
        schema = _shown(self._schemas[numbers[place - 1] - 1], query)
        return 200, {"subject": subject, "version": place, "id": numbers[place - 1], **schema}

    def _register(self, subject: str, *, query: dict[str, list[str]], body: dict[str, Any]) -> Answer:
        kind, references = body.get("schemaType", "AVRO"), body.get("references") or ()
        return 200, {"id": self.register(subject, body["schema"], kind, references)}

    def _look_up(self, subject: str, *, query: dict[str, list[str]], body: dict[str, Any]) -> Answer:
        number = self.register(subject, body["schema"], body.get("schemaType", "AVRO"), body.get("references") or ())
        place = self._subjects[subject].index(number) + 1
        return 200, {"subject": subject, "version": place, "id": number, "schema": body["schema"]}


_ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("GET", r"/schemas/ids/(-?\d+)", SchemaRegistryServer._by_id),
    ("GET", r"/subjects/([^/]+)/versions/(\d+|latest)", SchemaRegistryServer._version),
    ("POST", r"/subjects/([^/]+)/versions", SchemaRegistryServer._register),
    ("POST", r"/subjects/([^/]+)", SchemaRegistryServer._look_up),
]


def _shown(schema: dict[str, Any], query: dict[str, list[str]]) -> dict[str, Any]:
    """A schema as the registry shows it: Avro's type is left out, Protobuf is .proto text unless asked for otherwise."""
    shown = dict(schema)
    if shown["schemaType"] == "AVRO":
        del shown["schemaType"]
    if schema["schemaType"] == "PROTOBUF" and query.get("format") != ["serialized"]:
        base64.b64decode(shown["schema"], validate=True)
        shown["schema"] = 'syntax = "proto3"; // as text'
    return shown


def _handler_of(registry: SchemaRegistryServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            registry.asked.append(self.path)
            self._answer("GET", {})

        def do_POST(self) -> None:
            self._answer("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, method: str, body: dict[str, Any]) -> None:
            status, content = registry.answer(method, self.path, body)
            if registry.authorization not in {None, self.headers.get("Authorization")}:
                status, content = 401, {"error_code": 401, "message": "Unauthorized"}
            encoded = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *args: object) -> None:
            pass

    return Handler
