"""The registry: immutable bundle versions and an append-only log of promotions, in a folder or at any fsspec URL.

models/<name>/<version>/…     five files; a version exists once its manifest does, which is written last
aliases/<name>/000042.json    promotion number 42; created exclusively, the highest number is the truth
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import weakref
from datetime import datetime
from pathlib import Path
from typing import cast

from monitor.errors import BundleError
from monitor.model.bundle import (
    FILES,
    MANIFEST,
    Bundle,
    Manifest,
    load_bundle,
    parse_manifest,
    read_files,
    read_manifest,
    version_of,
)
from monitor.model.promotions import Author, Promotion, PromotionLog, challenged, promoted
from monitor.model.schema import Schema
from monitor.model.store import open_store

__all__ = ["Promotion", "Registry"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Registry:
    """Reads and writes one registry.

    Attributes:
        url: where it is.
        store: its files; other parts of the system keep their own beside the models.
    """

    def __init__(self, url: str) -> None:
        """Opens a registry; nothing is created before something is published.

        Args:
            url: a folder or an fsspec URL such as `s3://bucket/ganwatch`.

        Raises:
            ConfigError: no such protocol, or its package is not installed.
        """
        self.url = url
        self.store = open_store(url)

    def versions(self, model: str) -> list[str]:
        """All complete versions, oldest first."""
        return sorted(parts[2] for parts in self._manifests(f"models/{_checked_name(model)}"))

    def models(self) -> list[str]:
        """Names of the models that have a version."""
        return sorted({parts[1] for parts in self._manifests("models")})

    def publish(self, folder: Path) -> str:
        """Copies a finished bundle into the registry and returns its version; publishing it twice is harmless.

        Raises:
            BundleError: the folder is not a sound bundle, the version exists and was changed since, or it cannot be written.
        """
        manifest, sha256 = read_manifest(folder)
        contents = read_files(folder, manifest)
        version = version_of(manifest, sha256)
        target = _folder_of(manifest.model, version)
        if self._manifest(target) is not None:  # the digest in its name says that it is this very bundle
            return version
        for name in FILES:
            self.store.write(f"{target}/{name}", contents[name])
        self.store.write(f"{target}/{MANIFEST}", (folder / MANIFEST).read_bytes())
        return version

    def load(self, model: str, version: str, *, expected_schema: Schema | None = None, num_threads: int = 1) -> Bundle:
        """Reads and verifies a version; what was downloaded for it does not stay on the disk.

        Raises:
            BundleError: there is no such version, or it is damaged or made for another schema.
        """
        source = self._existing(model, version)
        if self.store.folder is not None:
            return load_bundle(self.store.folder / source, expected_schema=expected_schema, num_threads=num_threads)
        with tempfile.TemporaryDirectory(prefix=f"ganwatch-{model}-") as folder:
            downloaded = self._download(source, Path(folder) / version)
            return load_bundle(downloaded, expected_schema=expected_schema, num_threads=num_threads)

    def fetch(self, model: str, version: str) -> Path:
        """A local folder with the files of a version. Those of a remote one are kept as long as this object lives.

        Raises:
            BundleError: there is no such version, or its manifest was changed since it was published.
        """
        source = self._existing(model, version)
        if self.store.folder is not None:
            return self.store.folder / source
        folder = tempfile.mkdtemp(prefix=f"ganwatch-{model}-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return self._download(source, Path(folder) / version)

    def fetch_manifest(self, model: str, version: str) -> Manifest:
        """The manifest of a version, without its files.

        Raises:
            BundleError: there is no such version, or its manifest is damaged or was changed.
        """
        folder = self._existing(model, version)
        manifest = self._manifest(folder)
        if manifest is None:
            raise BundleError(f"{self.url}/{folder}/{MANIFEST}", "is gone")
        return manifest

    def promotions(self, model: str) -> list[Promotion]:
        """The whole log, oldest first.

        Raises:
            BundleError: an entry is damaged.
        """
        return self._log(model).entries()

    def last_promotion(self, model: str) -> Promotion | None:
        """The entry that holds; None before the first one.

        Raises:
            BundleError: it is damaged.
        """
        return self._log(model).last()

    def champion(self, model: str) -> str:
        """The version that is to score.

        Raises:
            BundleError: the model has none yet.
        """
        last = self.last_promotion(model)
        if last is None:
            known = ", ".join(self.models()) or "no models"
            raise BundleError(
                f"{self.url}/aliases/{model}",
                f"model {model!r} has no champion; `ganwatch train --registry {self.url}` makes one (the registry holds {known})",
            )
        return last.champion

    def promote(
        self,
        model: str,
        version: str,
        *,
        author: Author,
        reason: str,
        anchor: str | None = None,
        now: datetime | None = None,
    ) -> Promotion:
        """Makes a version the champion by appending to the log; of two at once the loser re-reads and follows.

        Args:
            model: its name.
            version: which.
            author: who says so.
            reason: a sentence.
            anchor: a new anchor; the present one by default, and the first champion where there is none.
            now: time of the entry.

        Raises:
            BundleError: there is no such version.
        """
        self._existing(model, version)
        entry = self._log(model).append(
            lambda last: promoted(last, version, author=author, reason=reason, anchor=anchor, now=now)
        )
        return cast("Promotion", entry)  # the entry was made whatever the last one was

    def promote_after(
        self,
        model: str,
        version: str,
        *,
        champion: str | None,
        author: Author,
        reason: str,
        anchor: str | None = None,
    ) -> Promotion | None:
        """Promotes only while `champion` (None: no version at all) is still what it was when this was decided.

        The anchor stays as it is unless another is given; the first champion is its own.

        Returns:
            None when another version is champion by now; nothing is written then.

        Raises:
            BundleError: there is no such version.
        """
        self._existing(model, version)

        def follow(last: Promotion | None) -> Promotion | None:
            unchanged = (last.champion if last else None) == champion
            return promoted(last, version, author=author, reason=reason, anchor=anchor) if unchanged else None

        return self._log(model).append(follow)

    def challenge(self, model: str, version: str | None, *, author: Author, reason: str) -> Promotion | None:
        """Names the version that is tried beside the champion, or none any more.

        Returns:
            None when the model has no champion yet; nothing is written then.

        Raises:
            BundleError: there is no such version.
        """
        if version is not None:
            self._existing(model, version)
        return self._log(model).append(
            lambda last: challenged(last, version, author=author, reason=reason) if last else None
        )

    def rollback(self, model: str, *, author: Author, reason: str, champion: str | None = None) -> Promotion | None:
        """Goes back to the champion before the present one; of several at once exactly one does.

        Args:
            model: its name.
            author: who says so.
            reason: a sentence.
            champion: the version to be taken out of service; the present one by default.

        Returns:
            None when another version is champion by now; nothing is written then.

        Raises:
            BundleError: there is nothing to go back to, or it is gone.
        """
        unwanted = champion or self.champion(model)
        log = self._log(model)

        def follow(last: Promotion | None) -> Promotion | None:
            if last is None or last.champion != unwanted:
                return None
            entry = log.rolled_back(author=author, reason=reason)
            self._existing(model, entry.champion)
            return entry

        return log.append(follow)

    def _log(self, model: str) -> PromotionLog:
        return PromotionLog(self.store, _checked_name(model))

    def _manifests(self, folder: str) -> list[list[str]]:
        """`["models", name, version, "manifest.json"]` of every complete version below a folder."""
        found = [path.split("/") for path in self.store.files(folder)]
        return [parts for parts in found if len(parts) == 4 and parts[3] == MANIFEST]

    def _existing(self, model: str, version: str) -> str:
        """The folder of a version, once its manifest is verified.

        Raises:
            BundleError: there is no such version, or its manifest was changed.
        """
        folder = _folder_of(model, version)
        if self._manifest(folder) is None:
            known = ", ".join(self.versions(model)) or "none"
            raise BundleError(
                f"{self.url}/{folder}", "no such version in the registry", expected="one of the known", found=known
            )
        return folder

    def _manifest(self, folder: str) -> Manifest | None:
        """A version's manifest; the folder's name ends in the beginning of its digest, which covers all other files."""
        content = self.store.read(f"{folder}/{MANIFEST}")
        if content is None:
            return None
        digest = hashlib.sha256(content).hexdigest()
        if not folder.endswith(f"-{digest[:8]}"):
            raise BundleError(
                f"{self.url}/{folder}/{MANIFEST}",
                "was changed after it was published; SHA-256 differs",
                expected=f"{folder[-8:]}…",
                found=digest,
            )
        return parse_manifest(f"{self.url}/{folder}/{MANIFEST}", content)

    def _download(self, source: str, folder: Path) -> Path:
        folder.mkdir()
        for name in (*FILES, MANIFEST):
            content = self.store.read(f"{source}/{name}")
            if content is None:
                raise BundleError(f"{self.url}/{source}/{name}", "is missing")
            (folder / name).write_bytes(content)
        return folder


def _folder_of(model: str, version: str) -> str:
    return f"models/{_checked_name(model)}/{_checked_name(version)}"


def _checked_name(name: str) -> str:
    """A model or version, which becomes part of a path.

    Raises:
        BundleError: it could lead out of the registry.
    """
    if not _NAME.fullmatch(name):
        raise BundleError(f"{name!r}", "is no name of a model or version; use letters, digits, '.', '_' and '-'")
    return name
