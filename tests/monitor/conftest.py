"""Fixtures of the monitor's tests: registries of every kind and bundles to put into them."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.model.bundle import Bundle
from monitor.model.registry import Registry
from tests.bundles import bundle_created


@pytest.fixture
def registry(registry_url: str) -> Registry:
    """An empty registry of every kind."""
    return Registry(registry_url)


@pytest.fixture
def local(tmp_path: Path) -> Registry:
    """An empty registry in a folder."""
    return Registry(str(tmp_path / "registry"))


@pytest.fixture
def bundles(tmp_path: Path, machines_bundle: Bundle) -> list[Path]:
    """Three bundles, each a month younger than the one before."""
    return [
        bundle_created(f"2026-0{month}-01T00:00:00.000000+00:00", tmp_path / f"bundle{month}", machines_bundle)
        for month in (1, 2, 3)
    ]
