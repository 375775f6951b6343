"""Why no broker answers: tries each server once, step by step, and says at which step it ends. Sends nothing to it.

The client library reports every failed connection as a time-out; a person needs to know whether it was the name, the
port, the certificate, or the other side that expects another protocol.
"""

from __future__ import annotations

import socket
import ssl

STEP_TIMEOUT_S = 2.0
# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_OTHER_HOST = {62, 64}


def why_unreachable(servers: list[tuple[str, int]], tls: ssl.SSLContext | None, security_protocol: str) -> str:
    """One clause for each server.

    Args:
        servers: hosts and ports.
        tls: how to verify a server; None for connections without TLS.
        security_protocol: as configured, for the sentence.
    """
    return "; ".join(f"{host}:{port} {_where_it_ends(host, port, tls, security_protocol)}" for host, port in servers)


def _where_it_ends(host: str, port: int, tls: ssl.SSLContext | None, security_protocol: str) -> str:
    try:
        with socket.create_connection((host, port), timeout=STEP_TIMEOUT_S) as connection:
            refusal = _refusal(connection, host, tls) if tls is not None else None
    except socket.gaierror as error:
        return f"cannot be resolved ({error.strerror}); check bootstrap_servers"
    except OSError as error:
        return f"cannot be connected to ({error.strerror or 'no answer'}); check bootstrap_servers and that the broker is up"
    return refusal or (
        f"accepts connections, but does not answer as Kafka with security_protocol {security_protocol}; "
        "check security_protocol and sasl_mechanism"
    )


def _refusal(connection: socket.socket, host: str, tls: ssl.SSLContext) -> str | None:
    """What is wrong with TLS; None when both sides are content."""
    try:
        with tls.wrap_socket(connection, server_hostname=host) as secured:
            secured.recv(1)  # TLS 1.3: only now the server says what it thinks of our certificate
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _OTHER_HOST:
            return f"shows a certificate for another host ({error.verify_message}); check bootstrap_servers"
        return f"shows a certificate that is not trusted ({error.verify_message}); check ssl_cafile"
    except TimeoutError:
        return None  # the server waits for us to speak
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        if "CERTIFICATE" in reason or "HANDSHAKE_FAILURE" in reason:
            return f"refuses our certificate ({reason}); check ssl_certfile and ssl_keyfile"
        return f"does not speak TLS with us ({reason}); check security_protocol"
    return None
