"""`sasl_token_command`: a real command gives the token, which is kept while it is good and shown to nobody."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from monitor.errors import BrokerError, ConfigError, GanwatchError
from monitor.settings import Settings, load_settings
from monitor.stream.token_command import PAUSE_S, TokenCommand, expiry_of
from tests.tokens import unsecured_token

OPAQUE = "planted-opaque-token-5Kd"
PRINT = f"print('{OPAQUE}')"


@dataclass
class Clock:
    """Epoch seconds that pass when told to."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def settings(command: str, **changes: object) -> Settings:
    flags = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "sasl_token_command": command}
    return load_settings(env={}, flags=flags | {"broker_timeout_s": 20} | changes)


@dataclass
class Script:
    """A token command that counts how often it was run."""

    file: Path

    def says(self, code: str) -> str:
        """The command line of a script with this code."""
        self.file.write_text(f"open({str(self.calls)!r}, 'a').write('x')\n{code}\n")
        return f"{sys.executable} '{self.file}'"

    @property
    def calls(self) -> Path:
        return self.file.with_suffix(".calls")

    @property
    def n_calls(self) -> int:
        return len(self.calls.read_text())


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path / "give token.py")


def problem_of(command: TokenCommand) -> str:
    with pytest.raises(BrokerError) as caught:
        command.token()
    assert OPAQUE not in str(caught.value)
    return caught.value.problem


def test_what_the_command_prints_is_the_token(script: Script) -> None:
    assert TokenCommand(settings(script.says(PRINT))).token() == OPAQUE


def test_a_token_is_used_again_for_four_fifths_of_its_life(script: Script) -> None:
    clock = Clock()
    command = TokenCommand(settings(script.says(f"print({unsecured_token('ann', clock.now, life_s=100)!r})")), clock)
    for now, calls in ((0, 1), (79, 1), (81, 2), (96, 2), (97, 3)):  # it prints the same one for ever
        clock.now = 1_800_000_000.0 + now
        command.token()
        assert script.n_calls == calls


def test_a_token_that_does_not_tell_its_life_is_asked_for_at_each_login(script: Script) -> None:
    command = TokenCommand(settings(script.says(PRINT)))
    assert [command.token(), command.token()] == [OPAQUE, OPAQUE]
    assert script.n_calls == 2


@pytest.mark.parametrize(
    "token", ["opaque", "a.b", "a.b.c", "..", "a.e30.c", "a.bnVsbA.c", "a.eyJleHAiOiJzb29uIn0.c", "a.\u00e4.c"]
)
def test_a_token_of_another_make_tells_no_life(token: str) -> None:
    assert expiry_of(token) is None


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import sys; sys.exit('no ticket; run kinit')", "ended with 1: no ticket; run kinit"),
        ("import sys; sys.exit(3)", "ended with 3"),
        ("pass", "printed nothing"),
        ("import sys; print('asleep', file=sys.stderr)", "printed nothing: asleep"),
        ("print('two words')", "printed 9 characters that are no token; it must print the token and nothing else"),
        (f"print('{OPAQUE}\\x01host=evil')", "printed 34 characters that are no token"),
        (f"print('{OPAQUE}'); import sys; sys.exit('got {OPAQUE}, but too late')", "ended with 1: got …, but too late"),
    ],
)
def test_a_command_without_a_token_is_an_error_that_shows_what_it_said(script: Script, code: str, problem: str) -> None:
    found = problem_of(TokenCommand(settings(script.says(code))))
    assert found.startswith(f"logging in: sasl_token_command {problem}")


def test_a_command_that_hangs_is_ended_with_all_that_it_started(script: Script, tmp_path: Path) -> None:
    started = tmp_path / "grandchild"
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(started)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    before = time.monotonic()
    command = TokenCommand(settings(script.says(code), broker_timeout_s=1.5))
    assert problem_of(command).endswith("gave no token within broker_timeout_s = 1.5 seconds")
    assert time.monotonic() - before < 5
    status = Path(f"/proc/{started.read_text()}/status")
    deadline = time.monotonic() + 5
    while status.exists() and "zombie" not in status.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_failed_command_is_left_alone_for_a_moment_and_told_of_once(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    command = TokenCommand(settings(script.says("import sys; sys.exit('closed')")), clock)
    for now, calls in ((0.0, 1), (PAUSE_S / 2, 1), (PAUSE_S + 0.1, 2)):
        clock.now = 1_800_000_000.0 + now
        assert problem_of(command).endswith("ended with 1: closed")
        assert script.n_calls == calls
    assert [record.message for record in caplog.records] == ["token_command_failed"]
    script.says(PRINT)
    clock.now += 2 * PAUSE_S
    assert command.token() == OPAQUE


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    line = f"echo $HOME ; touch {tmp_path / 'made'}"
    assert "are no token" in problem_of(TokenCommand(settings(line)))
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_is_not_there_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError) as caught:
        TokenCommand(settings("no-such-program --client-secret hunter2")).token()
    assert str(caught.value) == "sasl_token_command: cannot run 'no-such-program': No such file or directory"


@pytest.mark.parametrize("command", ["", "  ", "give 'token", "# nothing"])
def test_what_is_no_command_line_is_a_wrong_setting(command: str) -> None:
    with pytest.raises(GanwatchError) as caught:
        TokenCommand(settings(command)).token()
    assert caught.value.exit_code == 2
    assert "sasl_token_command: " in str(caught.value)


def test_the_mechanism_needs_the_command_and_no_password() -> None:
    with pytest.raises(ConfigError, match="security_protocol SASL_SSL needs sasl_token_command"):
        load_settings(env={}, flags={"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"})


def test_neither_command_nor_token_is_shown(script: Script) -> None:
    command = TokenCommand(settings(script.says(PRINT)))
    command.token()
    assert OPAQUE not in repr(command)
    assert str(script.file) not in repr(command)
