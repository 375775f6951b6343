"""Asks a schema registry for schemas, over the REST interface that Confluent's, Karapace, Redpanda and Apicurio share.

It keeps nothing; whoever asks remembers the answers.
"""

from __future__ import annotations

import base64
import ssl
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

import msgspec

from monitor.errors import ConfigError, GanwatchError
from monitor.settings import Settings

_MOST_BYTES = 16 * 2**20
# "Subject not found", "Version not found", "Schema not found"; another 404 does not come from a schema registry.
_UNKNOWN = frozenset({40401, 40402, 40403})


class SchemaRegistryError(GanwatchError):
    """The schema registry cannot be reached, refuses us, or answers in a way that we do not understand.

    Commands end with it; the daemon waits with back-off.

    Attributes:
        url: of the registry, as configured.
    """

    exit_code = 5

    def __init__(self, url: str, problem: str) -> None:
        self.url = url
        self.problem = " ".join(problem.split())
        super().__init__(f"schema registry at {url}: {self.problem}")


class Reference(msgspec.Struct, frozen=True):
    """A schema that another one is built upon.

    Attributes:
        name: what the other one calls it: the name of a type (Avro) or of a file (Protobuf).
        subject: it is registered under.
        version: of the subject.
    """

    name: str
    subject: str
    version: int


class RegisteredSchema(msgspec.Struct, frozen=True, rename={"text": "schema", "type": "schemaType"}):
    """A schema as the registry keeps it.

    Attributes:
        text: JSON (Avro), or a serialised file descriptor in base64 (Protobuf).
        type: `AVRO`, `PROTOBUF` or `JSON`.
        references: the schemas that it is built upon.
    """

    text: str
    type: str = "AVRO"
    references: tuple[Reference, ...] = ()


class _Refusal(msgspec.Struct):
    error_code: int


class SchemaRegistry:
    """A client of one registry; several threads may use it."""

    def __init__(self, settings: Settings, query: str = "") -> None:
        """Connects to nothing yet.

        Args:
            settings: where it is, and how to log in.
            query: put behind each question, such as `?format=serialized`.

        Raises:
            ConfigError: there is no `schema_registry_url`, or `schema_registry_cafile` cannot be read.
        """
        if settings.schema_registry_url is None:
            raise ConfigError("settings", "schema_registry_url is needed to read Avro and Protobuf records")
        self.url = settings.schema_registry_url.rstrip("/")
        self._query = query
        self._timeout_s = settings.schema_registry_timeout_s
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json"} | _authorization(settings)
        self._opener = _opener(settings)

    def schema(self, schema_id: int) -> RegisteredSchema | None:
        """The schema of an id; None when the registry knows none.

        Raises:
            SchemaRegistryError: no answer, or none that says so.
        """
        return self._get(f"schemas/ids/{schema_id}")

    def referenced(self, reference: Reference) -> RegisteredSchema:
        """The schema that another one is built upon.

        Raises:
            SchemaRegistryError: no answer, or the registry does not have it although it refers to it.
        """
        found = self._get(f"subjects/{quote(reference.subject, safe='')}/versions/{reference.version}")
        if found is None:
            raise SchemaRegistryError(self.url, f"lacks version {reference.version} of subject {reference.subject!r}")
        return found

    def _get(self, path: str) -> RegisteredSchema | None:
        request = Request(f"{self.url}/{path}{self._query}", headers=self._headers)  # noqa: S310 - http(s) by the settings
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                content = answer.read(_MOST_BYTES)
        except HTTPError as error:
            with error:
                if error.code == 404 and _is_unknown(error.read(_MOST_BYTES)):
                    return None
            raise SchemaRegistryError(self.url, f"answers /{path} with {error.code} {error.reason}") from error
        except URLError as error:
            raise SchemaRegistryError(self.url, f"cannot be reached: {error.reason}") from error
        except (OSError, HTTPException) as error:
            raise SchemaRegistryError(self.url, f"cannot be reached: {error or type(error).__name__}") from error
        try:
            return msgspec.json.decode(content, type=RegisteredSchema)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SchemaRegistryError(
                self.url, f"answers /{path} with something else than a schema: {error}"
            ) from error


def _is_unknown(content: bytes) -> bool:
    try:
        return msgspec.json.decode(content, type=_Refusal).error_code in _UNKNOWN
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


class _NoRedirect(HTTPRedirectHandler):
    """Credentials are for the configured host alone."""

    def redirect_request(self, *_args: Any, **_options: Any) -> None:
        return None


def _opener(settings: Settings) -> OpenerDirector:
    try:
        context = ssl.create_default_context(cafile=settings.schema_registry_cafile)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"schema_registry_cafile {settings.schema_registry_cafile}", f"cannot be used: {reason}"
        ) from error
    return build_opener(_NoRedirect, HTTPSHandler(context=context))


def _authorization(settings: Settings) -> dict[str, str]:
    if settings.schema_registry_token is not None:
        return {"Authorization": f"Bearer {settings.schema_registry_token.get_secret_value()}"}
    if settings.schema_registry_username is not None and settings.schema_registry_password is not None:
        login = f"{settings.schema_registry_username}:{settings.schema_registry_password.get_secret_value()}"
        return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    return {}
