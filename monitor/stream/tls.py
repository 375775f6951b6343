"""The TLS context of all connections to Kafka, made once from the settings: a wrong file is found before connecting."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from monitor.errors import ConfigError
from monitor.settings import Settings


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Verifies brokers against `ssl_cafile` (the system's authorities without it); shows the client certificate, if any.

    Returns:
        None where `security_protocol` does without TLS.

    Raises:
        ConfigError: a file cannot be used; names the settings.
    """
    if settings.security_protocol not in {"SSL", "SASL_SSL"}:
        return None
    with _usable("ssl_cafile", settings.ssl_cafile):
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
    context.check_hostname = settings.ssl_check_hostname
    if settings.ssl_certfile is not None:
        # Never None: OpenSSL would ask for the password on the terminal.
        password = settings.ssl_password.get_secret_value() if settings.ssl_password else ""
        with _usable("ssl_certfile, ssl_keyfile, ssl_password", settings.ssl_certfile, settings.ssl_keyfile):
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password=password)
    return context


@contextmanager
def _usable(names: str, *files: str | None) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = (
            error.reason
            if isinstance(error, ssl.SSLError) and error.reason
            else error.strerror
            if isinstance(error, OSError)
            else error
        )
        given = " and ".join(file for file in files if file is not None)
        raise ConfigError(names, f"cannot use {given}: {reason or error}") from error
