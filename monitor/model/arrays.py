"""Opens the archives of arrays in a bundle, so that a small file never unfolds into much memory and nothing is unpickled."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np


def open_arrays(content: bytes) -> Any:
    """Opens what `numpy.savez` wrote, as numpy's own context manager: array by name.

    Raises:
        ValueError: a member is compressed, which ours never are.
        zipfile.BadZipFile: it is no archive.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        compressed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
    if compressed:
        raise ValueError(f"{compressed[0]} is compressed; the arrays of a bundle are not")
    return np.load(io.BytesIO(content), allow_pickle=False)
