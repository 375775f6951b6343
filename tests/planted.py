"""Secrets to be planted wherever a user may put one, and looked for in everything that ganwatch writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from monitor.model.signature import make_keys
from monitor.settings import ENV_PREFIX, Settings

SECRET_SETTINGS = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]


def plant(folder: Path) -> dict[str, str]:
    """Variables with a secret in every setting that holds one, keys of an object store, and a private signing key.

    The token of the schema registry is left out: it stands in for user and password.
    """
    key = folder / "planted.pem"
    make_keys(key)
    settings = {f"{ENV_PREFIX}{name.upper()}": f"planted-{name}-7Qx" for name in SECRET_SETTINGS}
    del settings[f"{ENV_PREFIX}SCHEMA_REGISTRY_TOKEN"]
    return settings | {
        f"{ENV_PREFIX}SCHEMA_REGISTRY_USERNAME": "alice",
        f"{ENV_PREFIX}SASL_TOKEN_COMMAND": "./give-no-token --client-secret planted-client-secret-7Qx",
        "AWS_SECRET_ACCESS_KEY": "planted-aws-secret-7Qx",
        "AWS_SESSION_TOKEN": "planted-aws-session-7Qx",
        f"{ENV_PREFIX}SIGNING_KEY": str(key),
    }


def found_in(text: str, planted: Mapping[str, str]) -> list[str]:
    """Names of the planted secrets that a text shows."""
    return [name for name, secret in _secrets(planted) if secret in text]


def _secrets(planted: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    for name, text in planted.items():
        if name == f"{ENV_PREFIX}SIGNING_KEY":
            lines = Path(text).read_text().splitlines()
            yield from ((name, line) for line in lines if not line.startswith("-----"))
        elif "planted-" in text:
            yield name, text.split()[-1]
