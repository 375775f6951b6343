"""Finds and opens the model that the settings ask for; the daemon and the offline commands start here."""

from __future__ import annotations

import logging
import time

from monitor.model.bundle import Bundle
from monitor.model.registry import Registry
from monitor.model.schema import Schema
from monitor.settings import Settings

log = logging.getLogger(__name__)


def open_registry(settings: Settings, *, to_publish: bool = False) -> Registry:
    """The registry that the settings name; it trusts whom they trust.

    Args:
        settings: of the command.
        to_publish: what is published is signed, where `signing_key` is set; others need not have the key.

    Raises:
        ConfigError: no such protocol, its package is not installed, or a key cannot be used.
    """
    signing_key = settings.signing_key if to_publish else None
    return Registry(settings.registry, trusted_keys=settings.trusted_keys, signing_key=signing_key)


def load_champion(settings: Settings) -> Bundle:
    """The pinned version or the champion of the schema's model, verified.

    Raises:
        ConfigError: no usable schema.
        BundleError: no model, or a damaged one, or one for another schema, or not signed by a trusted key.
    """
    schema = Schema.load(settings.schema_path)
    registry = open_registry(settings)
    model = settings.model or schema.name
    version = settings.model_version or registry.champion(model)
    started = time.perf_counter()
    bundle = registry.load(model, version, expected_schema=schema)
    log.info(
        "model_loaded", extra={"model": model, "version": version, "seconds": round(time.perf_counter() - started, 3)}
    )
    return bundle
