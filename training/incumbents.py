"""What a retraining finds in the registry: champion and anchor to be held against, and a challenger that waits for its turn."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from monitor.errors import BundleError
from monitor.model.bundle import Bundle
from monitor.model.promotions import Promotion
from monitor.model.registry import Registry
from monitor.model.schema import Schema

log = logging.getLogger(__name__)


def find_waiting(registry: Registry, model: str, schema: Schema) -> str | None:
    """A version that passed the gate against the present champion, but whose trainer was killed before it was promoted.

    One that was champion already, or was tried beside it and withdrawn, had its turn; one that cannot be used never has.
    """
    entries = registry.promotions(model)
    if not entries:
        return None
    champion = entries[-1].champion
    had_its_turn = {entry.champion for entry in entries} | {entry.challenger for entry in entries[:-1]}
    for version in reversed(registry.versions(model)):
        if _second_of(version) < _second_of(champion):
            return None
        if version in had_its_turn:
            continue
        try:
            manifest = registry.fetch_manifest(model, version)
            gate = manifest.metrics.get("gate", {})
            passed = gate.get("verdict") == "passed" and gate.get("decided_against") == champion
            if passed and manifest.schema_fingerprint == schema.fingerprint:
                registry.load(model, version, expected_schema=schema)
                return version
        except BundleError as error:
            log.warning("version_passed_over", extra={"version": version, "error": str(error)})
    return None


def _second_of(version: str) -> str:
    """When a version was made; names order versions no finer than that."""
    return version.rpartition("-")[0]


@dataclass(frozen=True)
class Incumbents:
    """What a challenger is held against. A champion for another schema cannot be compared, but is still what is replaced."""

    last: Promotion | None
    champion: Bundle | None
    anchor: Bundle | None


def find_incumbents(registry: Registry, model: str, schema: Schema) -> Incumbents:
    """Loads and verifies both.

    Raises:
        BundleError: one is damaged, or the registry cannot be reached.
    """
    last = registry.last_promotion(model)
    if last is None:
        return Incumbents(None, None, None)

    def load(version: str | None) -> Bundle | None:
        if version is None:
            return None
        manifest = registry.fetch_manifest(model, version)
        same = manifest.schema_fingerprint == schema.fingerprint
        return registry.load(model, version, expected_schema=schema) if same else None

    return Incumbents(last, load(last.champion), load(last.anchor))
