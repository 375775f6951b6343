"""Signed models from the command line: a key, a signature, and what is refused without one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from monitor.model.bundle import Bundle
from monitor.model.registry import Registry
from tests import machines
from tests.kafka_broker import free_port
from tests.planted import found_in, plant


@dataclass
class User:
    """Somebody in a folder with a schema, an unsigned champion and readings to score."""

    folder: Path
    version: str

    def ganwatch(self, *arguments: str, code: int = 0, **variables: str) -> str:
        """What a command printed, on stderr where it ended with an error, once it ended with `code`."""
        own = {name: text for name, text in os.environ.items() if not name.startswith("GANWATCH_")}
        done = subprocess.run(
            [sys.executable, "-m", "monitor.cli", *arguments],
            cwd=self.folder, env=own | variables | {"COLUMNS": "160"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout or done.stderr

    def new_key(self, name: str) -> str:
        """Makes a key pair; returns the public key."""
        return self.ganwatch("models", "new-key", name).split()[-1]


@pytest.fixture
def user(tmp_path: Path, machines_bundle: Bundle) -> User:
    registry = Registry(str(tmp_path / "registry"))
    version = registry.publish(machines_bundle.path)
    registry.promote("machines", version, author="human", reason="the first one")
    (tmp_path / "features.toml").write_text(machines.FEATURES_TOML)
    machines.readings(50, seed=5).write_csv(tmp_path / "readings.csv")
    return User(tmp_path, version)


def test_a_model_is_signed_after_the_fact_and_used_from_then_on(user: User) -> None:
    key = user.new_key("signing.pem")
    said = user.ganwatch("score", "readings.csv", code=4, GANWATCH_TRUSTED_KEYS="signing.pem.pub")
    assert said.startswith(f"ganwatch: registry/models/machines/{user.version}/signature.json: is missing: ")
    assert "Traceback" not in said
    assert user.ganwatch("models", "sign", "--signing-key", "signing.pem") == (
        f"model machines: {user.version} is signed by {key}\n"
    )
    assert "50 rows" in user.ganwatch("score", "readings.csv", GANWATCH_TRUSTED_KEYS=key)


def test_check_finds_out_that_a_model_is_not_signed(user: User) -> None:
    key = user.new_key("signing.pem")
    down = {"GANWATCH_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}", "GANWATCH_BROKER_TIMEOUT_S": "0.2"}
    for signed, state in ((False, "wrong"), (True, "ok")):
        if signed:
            user.ganwatch("models", "sign", "--signing-key", "signing.pem")
        trials = json.loads(user.ganwatch("check", "--json", code=5, **down, GANWATCH_TRUSTED_KEYS=key))["trials"]
        (model,) = [trial for trial in trials if trial["what"] == "model"]
        assert (model["state"], "trusted_keys asks for it" in model["detail"]) == (state, not signed)


def test_the_catalogue_tells_who_signed(user: User) -> None:
    assert re.search(r"signed by +│ nobody ", user.ganwatch("models", "show"))
    key = user.new_key("signing.pem")
    user.ganwatch("models", "sign", GANWATCH_SIGNING_KEY="signing.pem")
    assert re.search(rf"signed by +│ {re.escape(key)} ", user.ganwatch("models", "show"))
    assert json.loads(user.ganwatch("models", "show", "--json"))["signed_by"] == key
    (model,) = json.loads(user.ganwatch("models", "list", "--json"))["models"]
    assert [entry["signed_by"] for entry in model["versions"]] == [key]
    assert "yes" in user.ganwatch("models", "list")


def test_a_damaged_model_is_not_signed(user: User) -> None:
    user.new_key("signing.pem")
    file = user.folder / "registry" / "models" / "machines" / user.version / "scorer.tflite"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    said = user.ganwatch("models", "sign", "--signing-key", "signing.pem", code=4)
    assert "scorer.tflite: was changed after it was written" in said
    assert not file.with_name("signature.json").exists()


def test_a_key_that_is_wrong_ends_each_command_with_2(user: User) -> None:
    assert "ganwatch: signing_key: names no key to sign with" in user.ganwatch("models", "sign", code=2)
    said = user.ganwatch("score", "readings.csv", code=2, GANWATCH_TRUSTED_KEYS="absent.pub")
    assert said.startswith(
        "ganwatch: trusted_keys absent.pub: is neither a public key of 32 bytes in base64 nor a file"
    )


@pytest.mark.training
@pytest.mark.parametrize(
    ("command", "code"), [(["train"], 0), (["retrain", "--target-alert-rate", "0.02"], 4)], ids=["train", "retrain"]
)
def test_what_is_trained_is_signed_whether_the_gate_likes_it_or_not_and_holds_no_secret(
    user: User, command: list[str], code: int
) -> None:
    key = user.new_key("signing.pem")
    user.ganwatch("models", "sign", "--signing-key", "signing.pem")
    machines.readings(600, seed=90).write_csv(user.folder / "rows.csv")
    few = ("--data", "rows.csv", "--option", "steps=2", "--signing-key", "signing.pem")
    planted = plant(user.folder)
    said = user.ganwatch(*command, *few, code=code, **planted | {"GANWATCH_TRUSTED_KEYS": key})
    written = [file.read_text("latin-1") for file in (user.folder / "registry").rglob("*") if file.is_file()]
    assert [found_in(text, planted) for text in (said, *written)] == [[]] * (1 + len(written))
    held = Registry(str(user.folder / "registry"), trusted_keys=[key])
    (new,) = set(held.versions("machines")) - {user.version}
    assert held.signer("machines", new) == key
    assert held.load("machines", held.champion("machines")).version == (new if code == 0 else user.version)
