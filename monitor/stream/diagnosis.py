"""Why no broker answers: tries each server once, step by step, and says at which step it ends.

The client library reports every failed attempt as a time-out; a person needs to know whether it was the name, the port, the
certificate or the login, or that the other side expects another protocol.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

STEP_TIMEOUT_S = 2.0
# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_OTHER_HOST = {62, 64}
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
# What a login by a mechanism rests on.
_PASSWORD = "sasl_username and sasl_password"  # noqa: S105 - names of settings
_MEANS = {"OAUTHBEARER": "sasl_token_command"}


@dataclass(frozen=True)
class Way:
    """How we talk to brokers.

    Attributes:
        security_protocol: Kafka's name for it.
        tls: how to verify a server; None for connections without TLS.
        certificate: PEM file of our own, if we show one.
        login: the client library's options of SASL; empty without a login.
    """

    security_protocol: str
    tls: ssl.SSLContext | None
    certificate: str | None
    login: Mapping[str, Any]


def why_unreachable(servers: list[tuple[str, int]], way: Way) -> str:
    """One clause for each server: (host, port)."""
    return "; ".join(f"{host}:{port} {_where_it_ends(host, port, way)}" for host, port in servers)


def _where_it_ends(host: str, port: int, way: Way) -> str:
    try:
        connection = socket.create_connection((host, port), timeout=STEP_TIMEOUT_S)
    except socket.gaierror as error:
        return f"cannot be resolved ({error.strerror}); check bootstrap_servers"
    except OSError as error:
        return f"cannot be reached ({error.strerror or 'no answer'}); check bootstrap_servers and that the broker is up"
    with connection:
        return _refusal(connection, host, way) or (
            f"accepts connections, but does not answer as Kafka with security_protocol {way.security_protocol}; "
            "check security_protocol"
        )


def _refusal(connection: socket.socket, host: str, way: Way) -> str | None:
    """What the server or we dislike about the other; None when neither says anything."""
    if way.tls is None:
        return _refused_login(connection, way.login)
    try:
        with way.tls.wrap_socket(connection, server_hostname=host) as secured:
            return _refused_login(secured, way.login)
    except ssl.SSLCertVerificationError as error:
        return f"shows a certificate {_distrust(error)}"
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        if "CERTIFICATE" in reason or "HANDSHAKE_FAILURE" in reason:
            return f"refuses our certificate ({reason}); {_remedy(way.certificate)}"
        return f"does not speak TLS with us ({reason}); check security_protocol"


def _distrust(error: ssl.SSLCertVerificationError) -> str:
    why = error.verify_message
    if error.verify_code in _OTHER_HOST:
        return f"for another host ({why}); check bootstrap_servers"
    if error.verify_code == _EXPIRED:
        return f"that is not valid any more ({why}); renew it, or check the clock here"
    return f"that is not trusted ({why}); check ssl_cafile"


def _remedy(certificate: str | None) -> str:
    """Brokers do not say that a certificate has expired."""
    from cryptography.x509 import load_pem_x509_certificate

    if certificate is not None:
        expires = load_pem_x509_certificate(Path(certificate).read_bytes()).not_valid_after_utc
        if expires < datetime.now(UTC):
            return f"it expired on {expires:%Y-%m-%d at %H:%M} UTC; renew it"
    return "check ssl_certfile and ssl_keyfile"


def _refused_login(connection: socket.socket, login: Mapping[str, Any]) -> str | None:
    """Logs in as the client library does; it gives up the connection before it has read the answer to a wrong password.

    Raises:
        ssl.SSLError: TLS 1.3: only at the first read the server says what it thinks of our certificate.
    """
    from kafka.errors import KafkaError
    from kafka.net.sasl import get_sasl_mechanism
    from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

    try:
        if not login:
            connection.recv(1)
            return None
        name = login["sasl_mechanism"]
        handshake = _ask(connection, SaslHandshakeRequest(mechanism=name, version=1))
        if name not in handshake.mechanisms:
            return f"offers no sasl_mechanism {name}, only {', '.join(sorted(handshake.mechanisms))}"
        mechanism = get_sasl_mechanism(name)(**login)
        while not mechanism.is_done():
            answer = _ask(connection, SaslAuthenticateRequest(mechanism.auth_bytes(), version=1))
            if answer.error_code:
                return f"refused the login ({answer.error_message}); check {_MEANS.get(name, _PASSWORD)}"
            mechanism.receive(answer.auth_bytes)
    except (TimeoutError, EOFError):
        pass
    except KafkaError as error:  # a token was not to be had a second time
        return f"accepts connections, but {error}"
    return None


def _ask(connection: socket.socket, request: Any) -> Any:
    """Sends one request and reads its response.

    Raises:
        EOFError: the server closed the connection instead.
    """
    from kafka.protocol.parser import KafkaProtocol

    protocol = KafkaProtocol(client_id="ganwatch")
    protocol.send_request(request)
    connection.sendall(protocol.send_bytes())
    header = _read(connection, 4)
    ((_, response),) = protocol.receive_bytes(header + _read(connection, *struct.unpack(">i", header)))
    return response


def _read(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise EOFError
        received += part
    return received
