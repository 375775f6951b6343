"""Bundles for tests, made from the committed one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from monitor.model.bundle import FILES, Bundle, read_manifest, write_bundle


def bundle_created(at: str, folder: Path, source: Bundle, model: str = "machines") -> Path:
    """The committed bundle, with another time of creation and thus another version."""
    manifest, _ = read_manifest(source.path)
    contents = {name: (source.path / name).read_bytes() for name in FILES}
    write_bundle(folder, msgspec.structs.replace(manifest, created_at=at, model=model), contents)
    return folder
