"""The registry: immutable bundle versions and an append-only log of promotions, in a folder or at any fsspec URL.

models/<name>/<version>/…     five files; a version exists once its manifest does, which is written last
aliases/<name>/000042.json    promotion number 42; created exclusively, the highest number is the truth
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import msgspec

from monitor.errors import BundleError, ConfigError
from monitor.model.bundle import FILES, MANIFEST, Manifest, parse_manifest, read_files, read_manifest, version_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Promotion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the log.

    Attributes:
        champion: version that scores.
        challenger: version that is tried beside it.
        anchor: version that never changes by itself; guards against slow poisoning.
        time: ISO 8601, UTC.
        author: `human`, `gate` or `guard`.
        reason: a sentence.
    """

    champion: str
    challenger: str | None = None
    anchor: str | None = None
    time: str
    author: str
    reason: str


class Registry:
    """Reads and writes one registry."""

    def __init__(self, url: str) -> None:
        """Opens a registry; nothing is created before something is published.

        Args:
            url: a folder or an fsspec URL such as `s3://bucket/ganwatch`.

        Raises:
            ConfigError: no such protocol, or its package is not installed.
        """
        self.url = url
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise ConfigError(f"registry {url!r}", str(error)) from error
        self._local = getattr(self._fs, "local_file", False) or "file" in _protocols(self._fs)

    def versions(self, model: str) -> list[str]:
        """All complete versions, oldest first."""
        names = [Path(path).parent.name for path in self._glob(f"models/{_checked_name(model)}/*/{MANIFEST}")]
        return sorted(names)

    def models(self) -> list[str]:
        """Names of the models that have a version."""
        return sorted({Path(path).parent.parent.name for path in self._glob(f"models/*/*/{MANIFEST}")})

    def publish(self, folder: Path) -> str:
        """Copies a finished bundle into the registry and returns its version; publishing it twice is harmless.

        Raises:
            BundleError: the folder is not a sound bundle, or the version exists and was changed since.
        """
        manifest, sha256 = read_manifest(folder)
        contents = read_files(folder, manifest)
        version = version_of(manifest, sha256)
        target = f"{self._folder_of(manifest.model)}/{version}"
        if self._fs.exists(f"{target}/{MANIFEST}"):
            self._verify(target, version)  # the digest in its name says that it is this very bundle
            return version
        self._fs.makedirs(target, exist_ok=True)
        for name in FILES:
            self._write(f"{target}/{name}", contents[name])
        self._write(f"{target}/{MANIFEST}", (folder / MANIFEST).read_bytes())
        return version

    def fetch(self, model: str, version: str) -> Path:
        """A local folder with the files of a version; remote ones are downloaded first.

        Raises:
            BundleError: there is no such version, or its manifest was changed since it was published.
        """
        source = f"{self._folder_of(model)}/{_checked_name(version)}"
        if not self._fs.exists(f"{source}/{MANIFEST}"):
            known = ", ".join(self.versions(model)) or "none"
            raise BundleError(
                f"{self.url}/models/{model}/{version}",
                "no such version in the registry",
                expected="one of the known",
                found=known,
            )
        self._verify(source, version)
        if self._local:
            return Path(source)
        folder = Path(tempfile.mkdtemp(prefix=f"ganwatch-{model}-")) / version
        folder.mkdir()
        for name in (*FILES, MANIFEST):
            (folder / name).write_bytes(self._fs.cat_file(f"{source}/{name}"))
        return folder

    def promotions(self, model: str) -> list[Promotion]:
        """The whole log, oldest first.

        Raises:
            BundleError: an entry is damaged.
        """
        return [self._read_promotion(path) for path in self._log(model)]

    def champion(self, model: str) -> str:
        """The version that is to score.

        Raises:
            BundleError: the model has none yet.
        """
        log = self._log(model)
        if not log:
            known = ", ".join(self.models()) or "no models"
            raise BundleError(
                f"{self.url}/aliases/{model}",
                f"model {model!r} has no champion; `ganwatch train --registry {self.url}` makes one (the registry holds {known})",
            )
        return self._read_promotion(log[-1]).champion

    def promote(self, model: str, version: str, *, author: str, reason: str, now: datetime | None = None) -> Promotion:
        """Makes a version the champion by appending to the log; of two at once the loser re-reads and follows.

        Raises:
            BundleError: there is no such version.
        """
        self.fetch_manifest(model, version)
        while True:
            log = self._log(model)
            last = self._read_promotion(log[-1]) if log else None
            entry = Promotion(
                champion=version,
                challenger=None,
                anchor=last.anchor if last and last.anchor else version,
                time=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
                author=author,
                reason=reason,
            )
            number = int(Path(log[-1]).stem) + 1 if log else 1
            if self._append(model, number, entry):
                return entry

    def fetch_manifest(self, model: str, version: str) -> Manifest:
        """The manifest of a version, without its files.

        Raises:
            BundleError: there is no such version, or its manifest is damaged.
        """
        file = f"{self._folder_of(model)}/{_checked_name(version)}/{MANIFEST}"
        try:
            return parse_manifest(file, self._fs.cat_file(file))
        except FileNotFoundError as error:
            raise BundleError(file, "no such version in the registry") from error

    def _folder_of(self, model: str) -> str:
        return f"{self._root}/models/{_checked_name(model)}"

    def _verify(self, folder: str, version: str) -> None:
        """The version's name ends in the beginning of its manifest's digest, which covers all other files."""
        digest = hashlib.sha256(self._fs.cat_file(f"{folder}/{MANIFEST}")).hexdigest()
        if not version.endswith(f"-{digest[:8]}"):
            raise BundleError(
                f"{folder}/{MANIFEST}",
                "was changed after it was published; SHA-256 differs",
                expected=f"{version[-8:]}…",
                found=digest,
            )

    def _append(self, model: str, number: int, entry: Promotion) -> bool:
        """Creates log entry `number`; False when another writer was faster."""
        path = f"{self._root}/aliases/{model}/{number:06d}.json"
        self._fs.makedirs(f"{self._root}/aliases/{model}", exist_ok=True)
        try:
            if self._local:
                _create_local(Path(path), msgspec.json.encode(entry))
            else:
                self._fs.pipe_file(path, msgspec.json.encode(entry), mode="create")
        except FileExistsError:
            return False
        return True

    def _write(self, path: str, content: bytes) -> None:
        """Writes a file so that no reader ever sees a part of it; object stores do that by themselves."""
        if self._local:
            Path(_beside(Path(path), content)).replace(path)
        else:
            self._fs.pipe_file(path, content)

    def _log(self, model: str) -> list[str]:
        entries = [path for path in self._glob(f"aliases/{_checked_name(model)}/*.json") if Path(path).stem.isdecimal()]
        return sorted(entries, key=lambda path: int(Path(path).stem))

    def _read_promotion(self, path: str) -> Promotion:
        try:
            return msgspec.json.decode(self._fs.cat_file(path), type=Promotion)
        except msgspec.MsgspecError as error:
            raise BundleError(path, f"cannot be understood: {error}") from error

    def _glob(self, pattern: str) -> list[str]:
        self._fs.invalidate_cache()
        return list(self._fs.glob(f"{self._root}/{pattern}"))


def _checked_name(name: str) -> str:
    """A model or version, which becomes part of a path.

    Raises:
        BundleError: it could lead out of the registry.
    """
    if not _NAME.fullmatch(name):
        raise BundleError(f"{name!r}", "is no name of a model or version; use letters, digits, '.', '_' and '-'")
    return name


def _protocols(filesystem: Any) -> tuple[str, ...]:
    return (filesystem.protocol,) if isinstance(filesystem.protocol, str) else tuple(filesystem.protocol)


def _beside(path: Path, content: bytes) -> str:
    """Writes the content, synced, to a new hidden file in the same folder."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    return file.name


def _create_local(path: Path, content: bytes) -> None:
    """Creates a whole file or raises FileExistsError; fsspec's own `mode="create"` is not atomic on a local disk."""
    temporary = _beside(path, content)
    try:
        os.link(temporary, path)
    finally:
        Path(temporary).unlink()
