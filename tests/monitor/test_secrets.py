"""Nothing that ganwatch writes shows a secret: planted ones are looked for in settings, errors, logs and answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from monitor.errors import ConfigError
from monitor.model.bundle import Bundle
from monitor.model.registry import Registry
from monitor.settings import Settings, load_settings
from tests import machines
from tests.kafka_broker import free_port
from tests.planted import SECRET_SETTINGS, found_in, plant


@pytest.fixture
def planted(tmp_path: Path) -> Mapping[str, str]:
    return plant(tmp_path)


def test_every_setting_that_sounds_like_a_secret_is_one() -> None:
    suspicious = {name for name in Settings.model_fields if re.search(r"password|secret|token", name)}
    assert suspicious <= set(SECRET_SETTINGS)
    assert {"sasl_password", "ssl_password", "sasl_token_command"} <= set(SECRET_SETTINGS)


def test_no_form_of_the_settings_shows_one(planted: Mapping[str, str]) -> None:
    settings = load_settings(env={name: text for name, text in planted.items() if name.startswith("GANWATCH_SASL")})
    shown = (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump()))
    assert [found_in(text, planted) for text in shown] == [[]] * len(shown)


@pytest.mark.parametrize("name", SECRET_SETTINGS)
@pytest.mark.parametrize("wrap", [lambda secret: [secret], lambda secret: {"is": secret}])
def test_a_secret_of_the_wrong_type_is_refused_unseen(name: str, wrap: Callable[[str], object]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(env={}, flags={name: wrap("planted-here-7Qx"), "max_rows": "many"})
    assert name in str(caught.value)
    assert "planted" not in str(caught.value)
    assert "planted" not in repr(caught.value.__cause__)


@pytest.fixture
def place(
    tmp_path: Path, machines_bundle: Bundle, s3: Callable[[], str], planted: Mapping[str, str]
) -> tuple[Path, dict[str, str]]:
    """A folder to be in, and an environment with a registry in S3, a broker that is down, and every secret."""
    url = f"{s3()}/models"
    registry = Registry(url)
    registry.promote("machines", registry.publish(machines_bundle.path), author="human", reason="")
    (tmp_path / "features.toml").write_text(machines.FEATURES_TOML)
    machines.readings(20, seed=5).write_csv(tmp_path / "readings.csv")
    settings = {
        "GANWATCH_REGISTRY": url,
        "GANWATCH_LOG_LEVEL": "debug",
        "GANWATCH_LOG_FORMAT": "json",
        "GANWATCH_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "GANWATCH_BROKER_TIMEOUT_S": "0.3",
        "GANWATCH_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "GANWATCH_SASL_MECHANISM": "PLAIN",
        "GANWATCH_SASL_USERNAME": "alice",
        "GANWATCH_HTTP_PORT": "0",
    }
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("GANWATCH_")}
    return tmp_path, inherited | settings | dict(planted)


def ganwatch(place: tuple[Path, dict[str, str]], *arguments: str) -> tuple[int, str]:
    """Exit code and everything that a command wrote."""
    folder, environ = place
    done = subprocess.run(
        [sys.executable, "-m", "monitor.cli", *arguments],
        cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


COMMANDS = {
    "run --list-settings": (0, "sasl_password"),
    "run": (5, "model_loaded"),
    "check --json": (5, '"what":"broker"'),
    "models list --json": (0, '"models"'),
    "score readings.csv": (0, "20 rows"),
    "run --set max_rows=many": (2, "max_rows"),
    "run --set sasl_mechanism=OAUTHBEARER": (2, "sasl_token_command: cannot run"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_shows_one_even_at_debug_level(
    place: tuple[Path, dict[str, str]], planted: Mapping[str, str], command: str
) -> None:
    expected_code, expected = COMMANDS[command]
    code, output = ganwatch(place, *command.split())
    assert code == expected_code, output
    assert expected in output
    assert found_in(output, planted) == []


def test_the_daemon_s_log_at_debug_level_is_searched_at_all(place: tuple[Path, dict[str, str]]) -> None:
    levels = {json.loads(line)["level"] for line in ganwatch(place, "run")[1].splitlines() if line.startswith("{")}
    assert "debug" in levels


def test_an_object_store_that_is_down_is_told_of_without_its_keys(
    place: tuple[Path, dict[str, str]], planted: Mapping[str, str]
) -> None:
    folder, environ = place
    down = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "AWS_MAX_ATTEMPTS": "1"}
    code, output = ganwatch((folder, environ | down), "run")
    assert code == 4, output
    assert found_in(output, planted) == []
