"""Deletes old versions of a model, so that a registry that is retrained for months does not fill the disk.

What scores stays, and what may score again: champion, challenger, anchor, and the champion that a rollback leads to.
"""

from __future__ import annotations

from contextlib import suppress

from monitor.model.bundle import FILES, MANIFEST, REPORT
from monitor.model.promotions import previous_champion
from monitor.model.registry import Registry
from monitor.model.signature import SIGNATURE
from monitor.model.store import Store
from monitor.model.stored_bundles import folder_of


def obsolete_versions(registry: Registry, model: str, keep: int) -> list[str]:
    """Versions that nothing needs, oldest first.

    Args:
        registry: that holds them.
        model: whose.
        keep: how many of the newest versions stay in any case; at least 1.

    Raises:
        BundleError: the registry cannot be reached, or its log is damaged.
    """
    log = registry.promotions(model)
    needed = {previous_champion(log)}
    if log:
        needed |= {log[-1].champion, log[-1].challenger, log[-1].anchor}
    return [version for version in registry.versions(model)[:-keep] if version not in needed]


def prune(registry: Registry, model: str, keep: int) -> list[str]:
    """Deletes the obsolete versions; returns them. Their promotions stay in the log.

    Raises:
        BundleError: the registry cannot be reached, or a file cannot be deleted.
    """
    gone = obsolete_versions(registry, model, keep)
    for version in gone:
        _delete(registry.store, model, version)
    return gone


def _delete(store: Store, model: str, version: str) -> None:
    """The manifest goes first: without one there is no version, however far the rest has come."""
    folder = folder_of(model, version)
    for name in (MANIFEST, *FILES, SIGNATURE, REPORT):
        store.remove(f"{folder}/{name}")
    if store.folder is not None:
        with suppress(OSError):  # something of somebody else's lies in it
            (store.folder / folder).rmdir()
