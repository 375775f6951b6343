"""`ganwatch models` for people: tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Column, Table

from monitor.catalogue.entries import Difference, ModelEntry
from monitor.model.bundle import Manifest
from monitor.model.promotions import Promotion

_SHOWN_PROMOTIONS = 10
_LONGEST_VALUE = 60


def new_console() -> Console:
    """Shows names and reasons as they are."""
    return Console(markup=False, emoji=False, highlight=False)


def print_models(console: Console, url: str, entries: Sequence[ModelEntry]) -> None:
    """All versions of some models, and their latest promotions."""
    if not entries:
        console.print(f"{url} holds no models yet; `ganwatch train --registry {url}` makes one")
    for entry in entries:
        title = f"model {entry.model}"
        table = Table(
            _version_column("version"), "role", _text_column("detector"), "trained on", "gate", "signed", title=title
        )
        for version in entry.versions:
            table.add_row(
                version.version,
                ", ".join(version.roles),
                version.detector if version.problem is None else f"damaged: {version.problem}",
                "" if version.train_rows is None else f"{version.train_rows:,} rows",
                version.gate or "",
                "" if version.signed_by is None else "yes",
                style="bold" if "champion" in version.roles else None,
            )
        console.print(table)
        print_promotions(console, entry.promotions)


def print_promotions(console: Console, promotions: Sequence[Promotion]) -> None:
    """The latest entries of the log; `promotions` come newest first."""
    if not promotions:
        return
    shown = promotions[:_SHOWN_PROMOTIONS]
    hidden = len(promotions) - len(shown)
    table = Table(
        "time", "what", _version_column("version"), "by", _text_column("reason"), title="promotions, newest first"
    )
    for entry in shown:
        version = entry.champion if entry.action != "challenge" else entry.challenger or "none any more"
        table.add_row(_minute(entry.time), entry.action, version, entry.author, entry.reason)
    console.print(table)
    if hidden:
        console.print(f"… and {hidden} older ones; --json shows all")


def print_version(
    console: Console,
    version: str,
    roles: Iterable[str],
    signer: str | None,
    report: str | None,
    manifest: Manifest,
    promotions: Sequence[Promotion],
) -> None:
    """One version: what it is, where its report lies, what it was made from, how it fared at the gate, and when it was promoted."""
    table = Table(show_header=False, title=f"model {manifest.model} {version}")
    table.add_row("role", ", ".join(roles) or "none")
    table.add_row("signed by", signer or "nobody")
    table.add_row("created", _minute(manifest.created_at))
    table.add_row("detector", f"{manifest.detector}, preset {manifest.configuration.get('preset')}")
    for key, value in manifest.data.items():
        table.add_row(f"data: {key}", _text(value))
    for key, value in manifest.metrics.items():
        if key not in ("gate", "course"):
            table.add_row(key, _text(value))
    table.add_row("made with", ", ".join(f"{name} {number}" for name, number in manifest.software.items()))
    console.print(table)
    if report:
        console.print(f"report: {report}", soft_wrap=True)  # there to be copied, so never broken
    gate = manifest.metrics.get("gate")
    if gate:
        console.print(_gate_table(gate))
    print_promotions(console, promotions)


def _gate_table(gate: dict[str, Any]) -> Table:
    table = Table("check", "limit", "value", "verdict", title=f"gate: {gate['verdict']}")
    for check in gate["checks"]:
        style = "bold red" if check["verdict"] == "refused" else None
        table.add_row(check["name"], _text(check["limit"]), _text(check["value"]), check["verdict"], style=style)
    return table


def print_differences(console: Console, before: str, after: str, found: Sequence[Difference]) -> None:
    """The values that differ, side by side."""
    if not found:
        console.print(f"{before} and {after} state the same")
        return
    table = Table("", before, after)
    for difference in found:
        table.add_row(difference.key, _text(difference.before), _text(difference.after))
    console.print(table)


def _version_column(header: str) -> Column:
    """Names of versions are there to be copied, so they are never cut."""
    return Column(header, no_wrap=True, min_width=len("20260131T235959Z-0a1b2c3d"))


def _text_column(header: str) -> Column:
    """Names in it are broken rather than cut where the terminal is narrow."""
    return Column(header, overflow="fold")


def _minute(time: str | None) -> str:
    return (time or "")[:16].replace("T", " ")


def _text(value: Any) -> str:
    """A value in few characters."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
