"""An append-only log whose entries are numbered files, so that of two writers at once exactly one gets the next number."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from monitor.errors import BundleError
from monitor.model.store import Store

Entry = TypeVar("Entry", bound=msgspec.Struct)


class NumberedLog(Generic[Entry]):
    """The files `<folder>/000042.json`; the highest number is the truth."""

    def __init__(self, store: Store, folder: str, entry_type: type[Entry]) -> None:
        self._store = store
        self._folder = folder
        self._type = entry_type

    def numbers(self) -> list[int]:
        """Numbers of all entries, ascending; other files in the folder are overlooked."""
        names = [path.removeprefix(f"{self._folder}/") for path in self._store.files(self._folder)]
        stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def read(self, number: int) -> Entry:
        """One entry.

        Raises:
            BundleError: it is damaged or gone.
        """
        path = self._path(number)
        return self._decode(path, self._store.read(path))

    def read_all(self) -> list[Entry]:
        """All entries, oldest first.

        Raises:
            BundleError: one is damaged or gone.
        """
        paths = [self._path(number) for number in self.numbers()]
        return [self._decode(path, content) for path, content in zip(paths, self._store.read_many(paths), strict=True)]

    def last(self) -> tuple[int, Entry | None]:
        """Number and content of the newest entry; 0 and None when there is none yet."""
        numbers = self.numbers()
        return (numbers[-1], self.read(numbers[-1])) if numbers else (0, None)

    def append(self, number: int, entry: Entry) -> bool:
        """Writes entry `number`; False when another writer was faster."""
        return self._store.create(self._path(number), msgspec.json.encode(entry))

    def forget_before(self, number: int) -> None:
        """Deletes older entries, for a log of which only the last one counts."""
        for old in self.numbers():
            if old < number:
                self._store.remove(self._path(old))

    def _decode(self, path: str, content: bytes | None) -> Entry:
        if content is None:
            raise BundleError(f"{self._store.url}/{path}", "is gone; entries are never deleted while they count")
        try:
            return msgspec.json.decode(content, type=self._type)
        except msgspec.MsgspecError as error:
            raise BundleError(f"{self._store.url}/{path}", f"cannot be understood: {error}") from error

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:06d}.json"
