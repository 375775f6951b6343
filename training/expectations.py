"""How well a model knows what a record should have been: an alert states that beside what it was."""

from __future__ import annotations

import numpy as np
import polars as pl

from monitor.model.bundle import Bundle

# Rows that are looked at: a search of latent codes takes milliseconds for each.
_ROWS = 1_000


def expectation_error(bundle: Bundle, normals: pl.DataFrame) -> float:
    """Mean distance of normal values from the expected ones, in units of their mean distance from the mean of all.

    0 is a model that reproduces its input, 1 one that knows no more than the mean; 0 also where no value varies. The unit is
    taken from the model's own transformed columns, so models with different preprocessors can be compared.

    Args:
        bundle: the model.
        normals: decoded rows; an even part of them where there are many.
    """
    if not normals.height:
        return 0.0
    X = bundle.preprocessor.transform(normals.gather_every(-(-normals.height // _ROWS))).X
    spread = float(np.abs(X - X.mean(axis=0, dtype=np.float64)).sum())
    return float(np.abs(X - bundle.scorer.explain(X).x_hat).sum(dtype=np.float64)) / spread if spread else 0.0
