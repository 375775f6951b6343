"""Records that carry an image, of one kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SHAPE = (8, 8, 1)


def images(n: int, seed: int) -> NDArray[np.float64]:
    """Slopes of different brightness with noise: float64 (n, 8, 8, 1), about 0 to 170."""
    rng = np.random.default_rng(seed)
    slope = 10.0 * np.add.outer(np.arange(8), np.arange(8))[..., None]
    return slope * rng.uniform(0.8, 1.2, (n, 1, 1, 1)) + rng.normal(0, 2, (n, *SHAPE))


def write(path: Path, arrays: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps({"part": f"p{row}", "image": image}) + "\n" for row, image in enumerate(arrays)))
    return path
