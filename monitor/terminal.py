"""What commands write: for people through one kind of console, for programs as JSON on one line."""

from __future__ import annotations

import msgspec
from rich.console import Console


def new_console(*, stderr: bool = False) -> Console:
    """Shows names and values as they are; lines are wrapped on a terminal only."""
    console = Console(markup=False, emoji=False, highlight=False, stderr=stderr)
    console.soft_wrap = not console.is_terminal
    return console


def print_json(content: object) -> None:
    """One object on one line of stdout."""
    print(msgspec.json.encode(content).decode())
