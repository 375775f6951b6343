"""Rows that are images, as the report shows them: as they came, as the model expects them, and the difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.model.bundle import Bundle

# Images of any rows, and as many of those with the highest scores.
SHOWN = 8
_GAP = 2


@dataclass(frozen=True)
class Pictures:
    """Images and what the model makes of them.

    Attributes:
        original: float32 (n, height, width, channels), in the values that the network sees.
        expected: of the same shape, the reconstruction.
    """

    original: NDArray[np.float32]
    expected: NDArray[np.float32]


def take_pictures(bundle: Bundle, X: NDArray[np.float32], raw_score: NDArray[np.float32]) -> Pictures | None:
    """Of rows from all over X, then of those that score highest; None where rows are no images.

    Args:
        bundle: whose detector knows the shape of its images.
        X: float32 (n >= 1, n_columns).
        raw_score: float32 (n,), of the same rows.
    """
    options: dict[str, Any] = bundle.manifest.configuration.get("options", {})
    shape = options.get("image_shape")
    if shape is None:
        return None
    anywhere = np.linspace(0, len(X) - 1, min(SHOWN, len(X))).astype(np.intp)
    rows = X[np.concatenate([anywhere, np.argsort(-raw_score, kind="stable")[:SHOWN]])]
    expected = bundle.scorer.explain(rows).x_hat
    return Pictures(rows.reshape(-1, *shape), expected.reshape(-1, *shape))


def make_sheet(pictures: Pictures) -> NDArray[np.float64]:
    """One picture of all: three lines of images, float64 (height, width, 3), 0 (dark) … 1; what lies between them is white.

    The originals' range is that from dark to bright; in the third line no difference is dark.
    """
    original, expected = pictures.original.astype(np.float64), pictures.expected.astype(np.float64)
    least, spread = original.min(), float(np.ptp(original)) or 1.0
    lines = [(original - least) / spread, (expected - least) / spread, np.abs(original - expected) / spread]
    return np.concatenate([_make_line(np.clip(line, 0, 1)) for line in lines])


def make_grid(values: NDArray[np.float64], image_shape: Sequence[int]) -> NDArray[np.float64]:
    """Generated images, a line for each moment of the training: float64 (height, width, 3).

    Args:
        values: float64 (moments, images, columns), 0 to 1.
        image_shape: height, width and channels of an image.
    """
    return np.concatenate([_make_line(line.reshape(-1, *image_shape)) for line in values])


def _make_line(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Images (n, height, width, channels) side by side: (height + gap, n · (width + gap), 3).

    Images without three channels are grey, the mean of theirs.
    """
    coloured = images if images.shape[-1] == 3 else np.repeat(images.mean(axis=-1, keepdims=True), 3, axis=-1)
    padded = np.pad(coloured, ((0, 0), (0, _GAP), (0, _GAP), (0, 0)), constant_values=1.0)
    return np.concatenate(list(padded), axis=1)
