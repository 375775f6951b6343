"""Golden records: raw JSON with the X and raw_score it must give, kept in a bundle and recomputed whenever it is loaded."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.model.arrays import open_arrays


@dataclass(frozen=True)
class Golden:
    """Records with known results.

    Attributes:
        records: raw JSON.
        X: float32 (n, n_columns).
        raw_score: float32 (n,).
    """

    records: tuple[bytes, ...]
    X: NDArray[np.float32]
    raw_score: NDArray[np.float32]

    def to_npz(self) -> bytes:
        """The content of `golden.npz`."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            records=np.frombuffer(b"".join(self.records), dtype=np.uint8),
            ends=np.cumsum([len(record) for record in self.records], dtype=np.int64),
            X=self.X,
            raw_score=self.raw_score,
        )
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> Golden:
        """Reads `golden.npz`.

        Raises:
            ValueError, KeyError: it is not what `to_npz` writes.
        """
        with open_arrays(content) as arrays:
            joined, ends = arrays["records"].tobytes(), arrays["ends"].tolist()
            records = tuple(joined[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True))
            golden = cls(records=records, X=arrays["X"], raw_score=arrays["raw_score"])
        if not records or golden.X.dtype != np.float32 or golden.raw_score.dtype != np.float32:
            raise ValueError("golden records must have X and raw_score in float32, and there must be one at least")
        return golden
