"""Rows that a generator makes on the way of a training. Of images they show at a glance what it has learned, and when."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOMENTS = 6
ROWS = 8


@dataclass(frozen=True)
class Sample:
    """Generated rows of one moment.

    Attributes:
        step: steps made by then.
        rows: float32 (k, d), of the same noise at every moment.
    """

    step: int
    rows: NDArray[np.float32]


@dataclass
class SampleTaker:
    """Takes samples: after the first steps, at the end, and evenly spaced between them.

    Attributes:
        generate: makes rows, float32 (n, d), from noise that is always the same.
        steps: planned.
        taken: in the order of the steps.
    """

    generate: Callable[[], NDArray[np.float32]]
    steps: int
    taken: list[Sample] = field(default_factory=list)

    def look(self, step: int) -> None:
        """Takes a sample when it is time, after so many steps."""
        if len(self.taken) < MOMENTS and step >= self.steps * len(self.taken) / (MOMENTS - 1):
            self.taken.append(Sample(step, self.generate()[:ROWS]))


def pack_samples(samples: Sequence[Sample]) -> dict[str, Any]:
    """Samples, at least one, as they stand in a manifest: 8 bits a value, within the range of the last sample."""
    rows = np.stack([sample.rows for sample in samples]).astype(np.float64)
    least, spread = rows[-1].min(), float(np.ptp(rows[-1])) or 1.0
    values = np.round(255 * np.clip((rows - least) / spread, 0, 1)).astype(np.uint8)
    packed = base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()
    return {"step": [sample.step for sample in samples], "shape": list(values.shape), "values": packed}


def unpack_samples(packed: Mapping[str, Any]) -> NDArray[np.float64]:
    """Float64 (moments, rows, columns), 0 to 1, of what `pack_samples` made."""
    values = np.frombuffer(zlib.decompress(base64.b64decode(packed["values"])), dtype=np.uint8)
    return values.reshape(packed["shape"]) / 255
