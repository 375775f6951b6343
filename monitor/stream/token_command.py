"""Tokens for SASL OAUTHBEARER from a command of the user's: what it prints is the token. Never shows one, not even in errors."""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from monitor.errors import BrokerError, ConfigError, GanwatchError
from monitor.settings import Settings

log = logging.getLogger(__name__)

# A token is asked for anew after this share of its life, as Kafka's own clients do. A broker that ends sessions with their
# tokens makes the client log in again after 85 % at the earliest, and then the token is a new one.
REFRESH_SHARE = 0.8
# The client connects anew at once when a login fails; the command is spared that.
PAUSE_S = 2.0
# RFC 6750, section 2.1; anything else could not be told from the rest of the login.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_LONGEST_COMPLAINT = 300
_SHORTEST_SECRET = 8


def token_provider(settings: Settings) -> Any:
    """What the client library asks for tokens. It has one already: a command that cannot give one is found before connecting.

    Raises:
        ConfigError: there is no such command.
        BrokerError: it gives no token.
    """
    from kafka.errors import KafkaConnectionError
    from kafka.net.sasl.oauth import AbstractTokenProvider

    command = TokenCommand(settings)

    class Provider(AbstractTokenProvider):  # type: ignore[misc]
        def token(self) -> str:
            try:
                return command.token()
            except GanwatchError as error:  # inside the client, which tries again after an error of its own kind
                raise KafkaConnectionError(str(error)) from error

    command.token()
    return Provider()


@dataclass
class TokenCommand:
    """Runs `sasl_token_command`, without a shell, and keeps its token for most of the token's life.

    How long a token lives is read from its `exp` (RFC 7519); one that does not say so is used for one login only. A client
    that is connected waits for the command on the thread that also sends its heartbeats.

    Attributes:
        settings: hold the command, and in `broker_timeout_s` how long it may take.
        clock: seconds since the epoch.
    """

    settings: Settings
    clock: Callable[[], float] = time.time
    _token: str = field(default="", repr=False)
    _good_until: float = 0.0
    _failure: str | None = None
    _try_again_at: float = 0.0

    def token(self) -> str:
        """A token that has not expired.

        Raises:
            ConfigError: there is no such command.
            BrokerError: it fails, takes too long, or prints no token; or it did so a moment ago.
        """
        asked_at = self.clock()
        if asked_at < self._good_until:
            return self._token
        if self._failure is not None and asked_at < self._try_again_at:
            raise BrokerError(self.settings.bootstrap_servers, self._failure)
        try:
            self._token = self._run()
        except BrokerError as error:
            if self._failure is None:  # once: the client tells nobody why it cannot log in again
                log.warning("token_command_failed", extra={"error": error.problem})
            self._failure, self._try_again_at = error.problem, self.clock() + PAUSE_S
            raise
        self._failure = None
        expires = expiry_of(self._token)
        self._good_until = asked_at if expires is None else asked_at + REFRESH_SHARE * (expires - asked_at)
        return self._token

    def _run(self) -> str:
        secret = self.settings.sasl_token_command
        words = shlex.split(secret.get_secret_value() if secret else "")
        try:
            process = subprocess.Popen(  # noqa: S603 - the user's own command, and no shell reads it
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigError("sasl_token_command", f"cannot run {words[0]!r}: {error.strerror}") from error
        try:
            printed, complaint = process.communicate(timeout=self.settings.broker_timeout_s)
        except subprocess.TimeoutExpired as error:
            problem = f"gave no token within broker_timeout_s = {self.settings.broker_timeout_s:g} seconds"
            raise self._refusal(problem) from error
        finally:
            _end(process)
        token = printed.decode(errors="replace").strip()
        if process.returncode:
            raise self._refusal(f"ended with {process.returncode}{_shown(complaint, token)}")
        if not token:
            raise self._refusal(f"printed nothing{_shown(complaint, token)}")
        if not _TOKEN.fullmatch(token):
            raise self._refusal(
                f"printed {len(token)} characters that are no token; it must print the token and nothing else"
            )
        return token

    def _refusal(self, problem: str) -> BrokerError:
        return BrokerError(self.settings.bootstrap_servers, f"logging in: sasl_token_command {problem}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the command if it still runs, with all that it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _shown(complaint: bytes, printed: str) -> str:
    """The end of what a command wrote to stderr, for an error, without what it printed as a token."""
    text = " ".join(complaint.decode(errors="replace").split())
    for word in printed.split():
        text = text.replace(word, "…") if len(word) >= _SHORTEST_SECRET else text
    return f": {text[-_LONGEST_COMPLAINT:]}" if text else ""


def expiry_of(token: str) -> float | None:
    """Epoch seconds at which a JSON web token expires; None where it does not say so.

    Who checks its signature is the broker; we only want to know when to ask for the next one.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    payload = parts[1]
    try:
        content = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        return msgspec.json.decode(content, type=_Claims).exp
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        return None


class _Claims(msgspec.Struct, frozen=True):
    exp: float | None = None
