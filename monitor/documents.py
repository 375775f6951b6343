"""Reads TOML documents and says in one sentence what is wrong with one. It knows no document in particular."""

from __future__ import annotations

import tomllib
from pathlib import Path

from monitor.errors import ConfigError

# What models, their versions and schemas may be called: the names become parts of paths.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


def read_toml(path: str | Path, *, fix: str) -> dict[str, object]:
    """Parses a TOML file; `fix` tells the user what to do when it is not there.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(str(path), f"no such file; {fix}") from error
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(str(path), f"is not TOML: {error}") from error


def describe_problem(problem: object) -> str:
    """One sentence from one entry of pydantic's `errors()`: place, complaint, and the value unless it may be a secret."""
    entry: dict[str, object] = dict(problem)  # type: ignore[call-overload]
    place = ".".join(str(part) for part in entry["loc"]) if entry["loc"] else ""  # type: ignore[attr-defined]
    message = str(entry["msg"]).removeprefix("Value error, ")
    if entry["type"] == "extra_forbidden":
        return f"unknown key {place!r}"
    given = entry.get("input")
    shown = f", got {given!r}" if isinstance(given, str | int | float | bool) and entry["type"] != "value_error" else ""
    return f"{place}: {message}{shown}" if place else f"{message}{shown}"
