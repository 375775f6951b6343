"""Bundles in a store: where a version lies, and how its files get there and back. The registry's hands; it decides nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from monitor.documents import NAME
from monitor.errors import BundleError
from monitor.model.bundle import FILES, MANIFEST, REPORT, Manifest, parse_manifest
from monitor.model.signature import SIGNATURE
from monitor.model.store import Store


def folder_of(model: str, version: str) -> str:
    """Where a version lies in its store.

    Raises:
        BundleError: one of the two is no name.
    """
    return f"models/{checked_name(model)}/{checked_name(version)}"


def report_path(model: str, version: str) -> str:
    """Where the training report of a version lies in its store: in its folder; a version may have none.

    Raises:
        BundleError: one of the two is no name.
    """
    return f"{folder_of(model, version)}/{REPORT}"


def checked_name(name: str) -> str:
    """A model or version, which becomes part of a path.

    Raises:
        BundleError: it could lead out of the registry.
    """
    if not re.fullmatch(NAME, name):
        raise BundleError(f"{name!r}", "is no name of a model or version; use letters, digits, '.', '_' and '-'")
    return name


def list_versions(store: Store, folder: str) -> list[tuple[str, str]]:
    """Model and version of every complete bundle below a folder, sorted."""
    found = [path.split("/") for path in store.files(folder)]
    return sorted((parts[1], parts[2]) for parts in found if len(parts) == 4 and parts[3] == MANIFEST)


@dataclass(frozen=True)
class StoredBundle:
    """A complete version.

    Attributes:
        folder: where it lies in its store.
        manifest: what it says about itself.
        sha256: of the manifest, hex; the version's name bears its beginning.
    """

    folder: str
    manifest: Manifest
    sha256: str


def look_up(store: Store, model: str, version: str) -> StoredBundle | None:
    """A version by its manifest; None where there is none.

    Raises:
        BundleError: the manifest is damaged, or was changed.
    """
    folder = folder_of(model, version)
    content = store.read(f"{folder}/{MANIFEST}")
    if content is None:
        return None
    digest = hashlib.sha256(content).hexdigest()
    if not folder.endswith(f"-{digest[:8]}"):
        raise BundleError(
            f"{store.url}/{folder}/{MANIFEST}",
            "was changed after it was published; SHA-256 differs",
            expected=f"{folder[-8:]}…",
            found=digest,
        )
    return StoredBundle(folder, parse_manifest(f"{store.url}/{folder}/{MANIFEST}", content), digest)


def find(store: Store, model: str, version: str) -> StoredBundle:
    """A version that must be there.

    Raises:
        BundleError: it is not, or its manifest was changed.
    """
    found = look_up(store, model, version)
    if found is None:
        known = ", ".join(name for _, name in list_versions(store, f"models/{checked_name(model)}")) or "none"
        raise BundleError(
            f"{store.url}/{folder_of(model, version)}",
            "no such version in the registry",
            expected="one of the known",
            found=known,
        )
    return found


@contextmanager
def temporary_files() -> Iterator[None]:
    """Around the making and filling of a temporary folder.

    Raises:
        BundleError: the disk takes no more, or there is no place for it.
    """
    try:
        yield
    except OSError as error:
        raise BundleError(
            "temporary files", f"cannot be written: {error.strerror or error}; set TMPDIR to a folder with room"
        ) from error


def download(store: Store, source: str, folder: Path) -> Path:
    """Copies a version into a new folder on this machine, with its signature if it has one.

    Raises:
        BundleError: a file is missing.
    """
    folder.mkdir()
    for name in (*FILES, MANIFEST, SIGNATURE):
        content = store.read(f"{source}/{name}")
        if content is not None:
            (folder / name).write_bytes(content)
        elif name != SIGNATURE:
            raise BundleError(f"{store.url}/{source}/{name}", "is missing")
    return folder
