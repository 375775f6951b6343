"""What a registry holds, as plain data for `ganwatch models`: versions with their parts, the log, and differences."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from monitor.errors import BundleError, ConfigError
from monitor.model.bundle import Manifest
from monitor.model.promotions import Promotion
from monitor.model.registry import Registry
from monitor.model.schema import Schema
from monitor.model.stored_bundles import report_path
from monitor.settings import Settings

LATEST = "latest"


@dataclass(frozen=True)
class VersionEntry:
    """One version of a model.

    Attributes:
        version: its name.
        roles: of champion, challenger, anchor; empty for most.
        created_at: ISO 8601, UTC; None when its manifest cannot be read.
        detector: what it is; None likewise.
        train_rows: how many rows it learned from; None where unknown.
        gate: `passed` or `refused`; None for one that never met the gate.
        signed_by: public key (base64) of who signed it; None for one that nobody signed.
        problem: why its manifest cannot be read, or its signature does not fit; None otherwise.
    """

    version: str
    roles: tuple[str, ...]
    created_at: str | None = None
    detector: str | None = None
    train_rows: int | None = None
    gate: str | None = None
    signed_by: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class ModelEntry:
    """One model of a registry.

    Attributes:
        model: its name.
        versions: newest first.
        promotions: newest first.
    """

    model: str
    versions: tuple[VersionEntry, ...]
    promotions: tuple[Promotion, ...]


@dataclass(frozen=True)
class Difference:
    """A value that two manifests state differently; None where one does not state it."""

    key: str
    before: Any
    after: Any


def chosen_model(registry: Registry, settings: Settings) -> str:
    """The model that the settings name, else the schema's, else the only one that the registry holds.

    Raises:
        ConfigError: none of these says which.
    """
    if settings.model:
        return settings.model
    if Path(settings.schema_path).exists():
        return Schema.load(settings.schema_path).name
    known = registry.models()
    if len(known) == 1:
        return known[0]
    held = f"holds {', '.join(known)}" if known else "holds no models yet; `ganwatch train` makes one"
    raise ConfigError("--model", f"which model is meant? {settings.schema_path} is not here, and {registry.url} {held}")


def describe_model(registry: Registry, model: str) -> ModelEntry:
    """All versions and promotions of one model.

    Raises:
        BundleError: the log is damaged.
    """
    log = registry.promotions(model)
    last = log[-1] if log else None
    versions = [_describe_version(registry, model, version, last) for version in registry.versions(model)]
    return ModelEntry(model=model, versions=tuple(reversed(versions)), promotions=tuple(reversed(log)))


def _describe_version(registry: Registry, model: str, version: str, last: Promotion | None) -> VersionEntry:
    roles = roles_of(version, last)
    try:
        manifest = registry.fetch_manifest(model, version)
        signer = registry.signer(model, version)
    except BundleError as error:
        return VersionEntry(version=version, roles=roles, problem=error.problem)
    return VersionEntry(
        version=version,
        roles=roles,
        created_at=manifest.created_at,
        detector=manifest.detector,
        train_rows=manifest.data.get("train_rows"),
        gate=manifest.metrics.get("gate", {}).get("verdict"),
        signed_by=signer,
    )


def roles_of(version: str, last: Promotion | None) -> tuple[str, ...]:
    """What a version is to the model, by the entry that holds."""
    if last is None:
        return ()
    parts = {"champion": last.champion, "challenger": last.challenger, "anchor": last.anchor}
    return tuple(role for role, holder in parts.items() if holder == version)


def find_version(registry: Registry, model: str, wanted: str | None) -> str:
    """The version that a person means: its name, `latest`, or without any the champion.

    Raises:
        BundleError: there is none of that name.
    """
    if wanted is None:
        return registry.champion(model)
    known = registry.versions(model)
    if wanted in known:
        return wanted
    if wanted == LATEST and known:
        return known[-1]
    place = f"{registry.url}/models/{model}"
    if not known:
        raise BundleError(place, f"model {model!r} has no versions; the registry holds {_listed(registry.models())}")
    close = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}" if close else f"the newest ones are {_listed(known[-3:])}"
    raise BundleError(place, f"no version {wanted!r}; {hint}; `ganwatch models list` shows all")


def find_report(registry: Registry, model: str, version: str) -> str | None:
    """Address of the training report of a version, if it has one."""
    is_there = registry.store.read(report_path(model, version)) is not None
    return registry.report_url(model, version) if is_there else None


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "nothing"


def differences(before: Manifest, after: Manifest) -> list[Difference]:
    """All values that differ, in the order of the manifest; digests of files and the course of the training are left out."""
    one, other = (dict(_flat(msgspec.to_builtins(manifest))) for manifest in (before, after))
    keys = [key for key in dict.fromkeys((*one, *other)) if not key.startswith(("files.", "metrics.course"))]
    return [Difference(key, one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)]


def _flat(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and plain values; entries of a list that have a name are keyed by it."""
    if isinstance(content, list) and content and all(isinstance(part, dict) and "name" in part for part in content):
        content = {part["name"]: {key: value for key, value in part.items() if key != "name"} for part in content}
    if not isinstance(content, dict) or not content:
        yield prefix, content
        return
    for key, value in content.items():
        yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
