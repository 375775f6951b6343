"""Byte strings side by side in one text: what is decoded, without an object for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class RawValues(Sequence[bytes | None]):
    """A sequence of byte strings, some of which may be absent.

    Attributes:
        text: holds them in order, each on a line of its own with any blanks around it; one that is absent has no line.
        starts: int64 (n,), where each begins.
        ends: int64 (n,), where each ends; before its start where there is none.
    """

    text: bytes
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, values: Iterable[bytes | None]) -> RawValues:
        """Puts values side by side."""
        values = list(values)
        sizes = np.fromiter((len(value or b"") for value in values), dtype=np.int64, count=len(values))
        ends = np.cumsum(sizes + 1) - 1
        absent = np.fromiter((value is None for value in values), dtype=np.bool_, count=len(values))
        return cls(b"\n".join(value or b"" for value in values), ends - sizes, ends - absent)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, row: int) -> bytes | None: ...
    @overload
    def __getitem__(self, row: slice) -> RawValues: ...
    def __getitem__(self, row: int | slice) -> bytes | RawValues | None:
        if isinstance(row, slice):
            return RawValues.of(self[one] for one in range(len(self))[row])
        start, end = int(self.starts[row]), int(self.ends[row])
        return self.text[start:end] if end >= start else None

    def __iter__(self) -> Iterator[bytes | None]:
        return (self[row] for row in range(len(self)))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """int64 (n,), bytes of each; negative where there is none."""
        return self.ends - self.starts

    def matrix(self, rows: NDArray[np.intp], width: int) -> NDArray[np.uint8]:
        """Values below one another: uint8 (n_rows, width); those at `rows` must have exactly so many bytes."""
        if not len(rows):
            return np.empty((0, width), dtype=np.uint8)
        octets = np.frombuffer(self.text, dtype=np.uint8)
        return np.lib.stride_tricks.sliding_window_view(octets, width)[self.starts[rows]]
