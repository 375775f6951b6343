"""Byte strings side by side in one buffer: what is decoded, without an object for each of them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

# Mean bytes between two values above which it is cheaper to copy the values than to blank what is between them.
_WIDEST_GAP = 64


@dataclass(frozen=True, eq=False)
class RawValues(Sequence[bytes | None]):
    """A sequence of byte strings, some of which may be absent.

    Attributes:
        buffer: uint8; holds them in order, with at least one other byte between any two.
        starts: int64 (n,), where each begins.
        ends: int64 (n,), where each ends; before its start where there is none.
    """

    buffer: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, values: Iterable[bytes | None]) -> RawValues:
        """Puts values side by side."""
        values = list(values)
        sizes = np.fromiter((len(value or b"") for value in values), dtype=np.int64, count=len(values))
        ends = np.cumsum(sizes + 1) - 1
        absent = np.fromiter((value is None for value in values), dtype=np.bool_, count=len(values))
        joined = b"\n".join(value or b"" for value in values)
        return cls(np.frombuffer(joined, dtype=np.uint8), ends - sizes, ends - absent)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, row: int) -> bytes | None: ...
    @overload
    def __getitem__(self, row: slice) -> RawValues: ...
    def __getitem__(self, row: int | slice) -> bytes | RawValues | None:
        if isinstance(row, slice):
            return RawValues(self.buffer, self.starts[row], self.ends[row])
        start, end = int(self.starts[row]), int(self.ends[row])
        return self.buffer[start:end].tobytes() if end >= start else None

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
        return np.lib.stride_tricks.sliding_window_view(self.buffer, width)[self.starts[rows]]

    def lines(self) -> bytes:
        """One value a line, with blanks around it; none may be absent or empty, or the lines do not match the values."""
        gap_starts = np.concatenate([[0], self.ends])
        gap_ends = np.concatenate([self.starts, [len(self.buffer)]])
        sizes = gap_ends - gap_starts
        stops = np.cumsum(sizes)
        if stops[-1] > _WIDEST_GAP * len(sizes):
            view = self.buffer.data
            return b"\n".join([view[a:b] for a, b in zip(self.starts.tolist(), self.ends.tolist(), strict=True)])
        lines = io.BytesIO(self.buffer.data)
        octets = np.frombuffer(lines.getbuffer(), dtype=np.uint8)
        octets[np.repeat(gap_starts - (stops - sizes), sizes) + np.arange(stops[-1])] = ord(" ")
        octets[self.ends[:-1]] = ord("\n")
        del octets  # so that the next line does not copy
        return lines.getvalue()
