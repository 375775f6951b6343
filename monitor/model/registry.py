"""The registry: immutable bundle versions and an append-only log of promotions, in a folder or at any fsspec URL.

models/<name>/<version>/…     five files, perhaps a signature and a report; a version exists once its manifest does, which comes last
aliases/<name>/000042.json    promotion number 42; created exclusively, the highest number is the truth
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import cast

from monitor.errors import BundleError, ConfigError
from monitor.model.bundle import (
    FILES,
    MANIFEST,
    Bundle,
    Manifest,
    load_bundle,
    read_files,
    read_manifest,
    read_signature,
    version_of,
)
from monitor.model.promotions import Author, Promotion, PromotionLog, challenged, promoted
from monitor.model.schema import Schema
from monitor.model.signature import SIGNATURE, read_signing_key, read_trusted_keys, require_trust, sign, signer_of
from monitor.model.store import open_store
from monitor.model.stored_bundles import (
    checked_name,
    download,
    find,
    folder_of,
    list_versions,
    look_up,
    report_path,
    temporary_files,
)

__all__ = ["Promotion", "Registry"]


class Registry:
    """Reads and writes one registry.

    Attributes:
        url: where it is.
        store: its files; other parts of the system keep their own beside the models.
    """

    def __init__(self, url: str, *, trusted_keys: Sequence[str] = (), signing_key: str | None = None) -> None:
        """Opens a registry; nothing is created before something is published.

        Args:
            url: a folder or an fsspec URL such as `s3://bucket/ganwatch`.
            trusted_keys: whose models are loaded and promoted; all, where none is named. See `read_trusted_keys`.
            signing_key: PEM file of the key that signs what is published.

        Raises:
            ConfigError: no such protocol, its package is not installed, or a key cannot be used.
        """
        self.url = url
        self.store = open_store(url)
        self._trusted = read_trusted_keys(trusted_keys)
        self._key = read_signing_key(signing_key) if signing_key else None

    def versions(self, model: str) -> list[str]:
        """All complete versions, oldest first."""
        return [version for _, version in list_versions(self.store, f"models/{checked_name(model)}")]

    def models(self) -> list[str]:
        """Names of the models that have a version."""
        return sorted({model for model, _ in list_versions(self.store, "models")})

    def expect_to_publish(self) -> None:
        """Finds out, before long work, whether its result could be published; writes nothing.

        Raises:
            ConfigError: the folder cannot be written to, or the remote store does not answer.
        """
        folder = self.store.folder
        if folder is None:
            try:
                self.store.files("aliases")
            except BundleError as error:
                raise ConfigError(f"registry {self.url!r}", f"does not answer: {error}") from error
            return
        nearest = next(place for place in (folder, *folder.resolve().parents) if place.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise ConfigError(f"registry {self.url!r}", f"{nearest} is no folder that can be written to")

    def publish(self, folder: Path) -> str:
        """Copies a finished bundle into the registry and returns its version; publishing it twice is harmless.

        It is signed with our key; without one it keeps the signature it has, if any.

        Raises:
            BundleError: the folder is not a sound bundle, the version exists and was changed since, or it cannot be written.
        """
        manifest, sha256 = read_manifest(folder)
        contents = read_files(folder, manifest)
        version = version_of(manifest, sha256)
        target = folder_of(manifest.model, version)
        published = look_up(self.store, manifest.model, version) is not None
        signature = sign(sha256, self._key) if self._key else read_signature(folder)
        if signature is not None:
            self.store.write(f"{target}/{SIGNATURE}", signature)
        if published:  # the digest in its name says that it is this very bundle
            return version
        for name in FILES:
            self.store.write(f"{target}/{name}", contents[name])
        self.store.write(f"{target}/{MANIFEST}", (folder / MANIFEST).read_bytes())
        return version

    def sign(self, model: str, version: str) -> None:
        """Vouches for a version that is there, with our key, in the place of whoever signed it before.

        Raises:
            BundleError: there is no such version, or its manifest was changed.
            ConfigError: we have no key.
        """
        if self._key is None:
            raise ConfigError("signing_key", "names no key to sign with; `ganwatch models new-key` makes one")
        found = find(self.store, model, version)
        self.store.write(f"{found.folder}/{SIGNATURE}", sign(found.sha256, self._key))

    def signer(self, model: str, version: str) -> str | None:
        """The public key (base64) that signed a version, trusted or not; None where nobody did.

        Raises:
            BundleError: there is no such version, or manifest or signature were changed.
        """
        found = find(self.store, model, version)
        place = f"{found.folder}/{SIGNATURE}"
        content = self.store.read(place)
        return None if content is None else signer_of(f"{self.url}/{place}", content, found.sha256)

    def load(self, model: str, version: str, *, expected_schema: Schema | None = None, num_threads: int = 1) -> Bundle:
        """Reads and verifies a version; what was downloaded for it does not stay on the disk.

        Raises:
            BundleError: there is no such version, or it is damaged, made for another schema, or not signed by a trusted key.
        """
        source = self._trusted_version(model, version)

        def load(folder: Path) -> Bundle:
            return load_bundle(folder, expected_schema=expected_schema, num_threads=num_threads, trusted=self._trusted)

        if self.store.folder is not None:
            return load(self.store.folder / source)
        with temporary_files(), tempfile.TemporaryDirectory(prefix=f"ganwatch-{model}-") as folder:
            return load(download(self.store, source, Path(folder) / version))

    def fetch(self, model: str, version: str) -> Path:
        """A local folder with the files of a version. Those of a remote one are kept as long as this object lives.

        Raises:
            BundleError: there is no such version, its manifest was changed since it was published, or it is not signed by a
                trusted key.
        """
        source = self._trusted_version(model, version)
        if self.store.folder is not None:
            return self.store.folder / source
        with temporary_files():
            folder = tempfile.mkdtemp(prefix=f"ganwatch-{model}-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            return download(self.store, source, Path(folder) / version)

    def fetch_manifest(self, model: str, version: str) -> Manifest:
        """The manifest of a version, without its files, whoever signed it.

        Raises:
            BundleError: there is no such version, or its manifest is damaged or was changed.
        """
        return find(self.store, model, version).manifest

    def report_url(self, model: str, version: str) -> str:
        """Where the training report of a version is, if it has one."""
        return f"{self.url}/{report_path(model, version)}"

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
        self._trusted_version(model, version)
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
        self._trusted_version(model, version)

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
            self._trusted_version(model, version)
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
            self._trusted_version(model, entry.champion)
            return entry

        return log.append(follow)

    def _log(self, model: str) -> PromotionLog:
        return PromotionLog(self.store, checked_name(model))

    def _trusted_version(self, model: str, version: str) -> str:
        """The folder of a version that a trusted key signed.

        Raises:
            BundleError: there is no such version, its manifest was changed, or it is not signed by a trusted key.
        """
        found = find(self.store, model, version)
        if self._trusted:
            place = f"{found.folder}/{SIGNATURE}"
            require_trust(f"{self.url}/{place}", self.store.read(place), found.sha256, self._trusted)
        return found.folder
