"""Keeps native libraries from writing notes into our logs: TensorFlow and LiteRT print to file descriptor 2 past Python."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_stderr_held() -> Iterator[None]:
    """Holds back what native code writes to stderr; it is shown only when the block raises.

    The whole process is affected, so use it where no other thread logs: at start-up, around an import or a conversion.
    """
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
