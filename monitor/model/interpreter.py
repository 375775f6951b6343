"""Starts LiteRT for a network and feeds it rows in pieces that suit it.

Most networks take any number of rows. One that searches (AnoGAN's latent search) is compiled for a fixed number: its
last piece is filled up with rows of zeros, whose results are dropped. LiteRT's default delegate fails inside the loop
of such a search, so it runs without.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Activations of so many rows stay in the cache, and the memory of the network does not grow with the micro-batch.
ROWS_AT_ONCE = 512


def load_interpreter(model: bytes, num_threads: int) -> Any:
    """An interpreter for the content of a `scorer.tflite`.

    Raises:
        ValueError: it is not a LiteRT model.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(model_content=model, num_threads=num_threads)
    if all(input_shape(interpreter.get_signature_runner(name))[0] < 0 for name in interpreter.get_signature_list()):
        return interpreter
    return Interpreter(
        model_content=model,
        num_threads=num_threads,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )


def input_shape(runner: Any) -> tuple[int, int]:
    """Rows and columns that a signature takes; -1 for any number of rows."""
    (details,) = runner.get_input_details().values()
    n_rows, n_columns = details["shape_signature"]
    return int(n_rows), int(n_columns)


def run_in_pieces(runner: Any, X: NDArray[np.float32], fixed_rows: int) -> dict[str, NDArray[np.float32]]:
    """All outputs of a signature by name, float32 (n_rows, ...) each.

    Args:
        runner: of one signature.
        X: float32 (n_rows >= 1, n_columns).
        fixed_rows: that the signature takes; negative for any number.
    """
    pieces = list(_pieces(runner, X, fixed_rows))
    return {name: np.concatenate([piece[name] for piece in pieces])[: len(X)] for name in pieces[0]}


def _pieces(runner: Any, X: NDArray[np.float32], fixed_rows: int) -> Iterator[dict[str, NDArray[np.float32]]]:
    rows_at_once = fixed_rows if fixed_rows > 0 else ROWS_AT_ONCE
    for start in range(0, len(X), rows_at_once):
        piece = X[start : start + rows_at_once]
        if len(piece) < fixed_rows:
            piece = np.concatenate([piece, np.zeros((fixed_rows - len(piece), X.shape[1]), dtype=np.float32)])
        yield runner(X=piece)
