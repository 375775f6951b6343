"""Finds and opens the model that the settings ask for; the daemon and the offline commands start here."""

from __future__ import annotations

import logging
import time

from monitor.model.bundle import Bundle
from monitor.model.registry import Registry
from monitor.model.schema import Schema
from monitor.settings import Settings

log = logging.getLogger(__name__)


def open_registry(settings: Settings) -> Registry:
    """The registry that the settings name.

    Raises:
        ConfigError: no such protocol, or its package is not installed.
    """
    return Registry(settings.registry, trusted_keys=settings.trusted_keys)


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
