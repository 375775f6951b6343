"""Files at a folder or at any fsspec URL: the one place where the registry meets a disk or an object store. It knows no models.

A file is seen whole or not at all, and `create` lets exactly one of many writers win. Paths are relative, with `/` between
their parts. What a backend raises is translated here into `BundleError`, which names the place and the reason.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import fsspec

from monitor.errors import BundleError, ConfigError, GanwatchError

# They hold objects, not folders; making a folder there may even try to make a bucket.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"})
# What the backends' packages are called in our extras.
_EXTRAS = {"s3": "s3", "s3a": "s3"}


class Store(Protocol):
    """Where files lie.

    Attributes:
        url: as given, for people.
        folder: where they lie on this machine's disk; None elsewhere.
    """

    url: str
    folder: Path | None

    def create(self, path: str, content: bytes) -> bool:
        """Writes a file that must not exist; False when there is one already, which stays as it is.

        No two writers may offer the same content, or both may take themselves for the winner.
        """
        ...

    def write(self, path: str, content: bytes) -> None:
        """Writes a file, over an old one if there is one."""
        ...

    def read(self, path: str) -> bytes | None:
        """The content of a file; None when there is none."""
        ...

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """The contents of many files, in their order; a remote store is asked for all of them at once."""
        ...

    def files(self, folder: str) -> list[str]:
        """Paths of all files below a folder, sorted; none when there is no such folder."""
        ...

    def remove(self, path: str) -> None:
        """Deletes a file, if it is there."""
        ...


def open_store(url: str, what: str = "registry") -> Store:
    """The store at a folder or an fsspec URL such as `s3://bucket/ganwatch`; nothing is created yet.

    Args:
        url: where.
        what: the setting it comes from, for errors.

    Raises:
        ConfigError: no such protocol, or its package is not installed.
    """
    try:
        filesystem, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        extra = _EXTRAS.get(url.partition("://")[0])
        remedy = f"; install it with `pip install 'ganwatch[{extra}]'`" if extra else ""
        raise ConfigError(f"{what} {url!r}", f"{error}{remedy}") from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"{what} {url!r}", str(error)) from error
    if "file" in _protocols(filesystem):
        return LocalStore(url, Path(root))
    return RemoteStore(url, filesystem, root)


class LocalStore:
    """A folder on a disk."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder: Path | None = folder
        self._root = folder

    def create(self, path: str, content: bytes) -> bool:
        """See `Store`. A hard link is what no two writers can make; fsspec's own exclusive mode is not atomic here."""
        with _border(self.url, path, "written"), _beside(self._root / path, content) as temporary:
            try:
                os.link(temporary, self._root / path)
            except FileExistsError:
                return False
        return True

    def write(self, path: str, content: bytes) -> None:
        """See `Store`."""
        with _border(self.url, path, "written"), _beside(self._root / path, content) as temporary:
            temporary.replace(self._root / path)

    def read(self, path: str) -> bytes | None:
        """See `Store`."""
        with _border(self.url, path, "read"):
            try:
                return (self._root / path).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """See `Store`."""
        return [self.read(path) for path in paths]

    def files(self, folder: str) -> list[str]:
        """See `Store`; hidden files, such as half-written ones, do not count."""
        found: list[str] = []
        with _border(self.url, folder, "listed"):
            for place, folders, names in os.walk(self._root / folder, onerror=_raise_unless_gone):
                folders[:] = [name for name in folders if not name.startswith(".")]
                below = Path(place).relative_to(self._root).as_posix()
                seen = (name for name in names if not name.startswith("."))
                found += [f"{below}/{name}" for name in seen if os.path.isfile(f"{place}/{name}")]  # noqa: PTH113 - quick
        return sorted(found)

    def remove(self, path: str) -> None:
        """See `Store`."""
        with _border(self.url, path, "deleted"):
            (self._root / path).unlink(missing_ok=True)


class RemoteStore:
    """Anything else that fsspec reaches. Object stores show a file only when it is whole."""

    def __init__(self, url: str, filesystem: Any, root: str) -> None:
        self.url = url
        self.folder: Path | None = None
        self._fs = filesystem
        self._root = root.rstrip("/")
        self._makes_folders = not _OBJECT_STORES & set(_protocols(filesystem))

    def create(self, path: str, content: bytes) -> bool:
        """See `Store`.

        Stores word their refusal differently, and a request that was repeated because its answer got lost is refused for
        the sake of itself; so after any failure it is the content that lies there that says who won.
        """
        with _border(self.url, path, "written"):
            self._make_folder_of(path)
            try:
                self._fs.pipe_file(self._at(path), content, mode="create")
            except OSError:
                there = self.read(path)
                if there is None:
                    raise
                return there == content
        return True

    def write(self, path: str, content: bytes) -> None:
        """See `Store`."""
        with _border(self.url, path, "written"):
            self._make_folder_of(path)
            self._fs.pipe_file(self._at(path), content)

    def read(self, path: str) -> bytes | None:
        """See `Store`."""
        with _border(self.url, path, "read"):
            try:
                content: bytes = self._fs.cat_file(self._at(path))
            except FileNotFoundError:
                return None
            return content

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """See `Store`."""
        if not paths:
            return []
        with _border(self.url, paths[0], "read"):
            found: dict[str, Any] = self._fs.cat([self._at(path) for path in paths], on_error="return")
            contents = [found[self._at(path)] for path in paths]
            broken = [part for part in contents if isinstance(part, Exception)]
            for error in broken:
                if not isinstance(error, FileNotFoundError):
                    raise error
        return [None if isinstance(part, Exception) else part for part in contents]

    def files(self, folder: str) -> list[str]:
        """See `Store`."""
        with _border(self.url, folder, "listed"):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(self._at(folder))
            except FileNotFoundError:
                return []
        return sorted(path.removeprefix(self._root).lstrip("/") for path in found)

    def remove(self, path: str) -> None:
        """See `Store`."""
        with _border(self.url, path, "deleted"), suppress(FileNotFoundError):
            self._fs.rm_file(self._at(path))

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _make_folder_of(self, path: str) -> None:
        if self._makes_folders:
            self._fs.makedirs(self._at(path).rpartition("/")[0], exist_ok=True)


@contextmanager
def _border(url: str, path: str, done: str) -> Iterator[None]:
    """Translates what a disk or a backend's package raises, which may be anything, into one error of ours."""
    try:
        yield
    except GanwatchError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BundleError(f"{url}/{path}", f"cannot be {done}: {' '.join(reason.split())}") from error


def _raise_unless_gone(error: OSError) -> None:
    """For `os.walk`, which would overlook a folder that may not be read."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


@contextmanager
def _beside(path: Path, content: bytes) -> Iterator[Path]:
    """A new hidden file with this content, synced, in the folder of `path`; it is gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _protocols(filesystem: Any) -> tuple[str, ...]:
    return (filesystem.protocol,) if isinstance(filesystem.protocol, str) else tuple(filesystem.protocol)
