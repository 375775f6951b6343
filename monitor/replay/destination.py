"""Where the alerts of a replay go: a topic, or a file that holds each alert once, however often the replay is killed."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import BinaryIO, Protocol

from monitor.errors import ConfigError
from monitor.settings import Settings
from monitor.stream.judged import Judged
from monitor.stream.sink import Delivery, Sink


class Destination(Protocol):
    """Takes alerts."""

    def begin(self) -> None:
        """Called when nothing was delivered before."""

    def go_on(self, written: int) -> None:
        """Called when an earlier run was: undoes what it delivered and never committed, where that can be done."""

    def deliver(self, judged: Judged) -> None:
        """Returns once the messages of a micro-batch are kept for good, or will be with the next `settle`."""

    def settle(self) -> int:
        """Called before each commit of progress; returns what a later run is to give to `go_on`."""

    def close(self) -> None:
        """Lets go of everything."""


class AlertTopic:
    """Alerts go where the daemon's go; after a kill some may come twice, with equal ids."""

    def __init__(self, settings: Settings) -> None:
        """Connects.

        Raises:
            BrokerError: no broker, or it refuses us.
        """
        self._sink = Sink(settings)

    def begin(self) -> None:
        """Nothing is needed."""

    def go_on(self, written: int) -> None:
        """What was sent cannot be taken back."""

    def deliver(self, judged: Judged) -> None:
        """Waits for the acknowledgements, however long they take."""
        Delivery(self._sink, judged).complete(threading.Event(), lambda _topic, _waiting: None)

    def settle(self) -> int:
        """Everything is acknowledged already."""
        return 0

    def close(self) -> None:
        """Ends the producer."""
        self._sink.close(timeout_s=1.0)


class AlertFile:
    """One alert a line, each once."""

    def __init__(self, path: Path) -> None:
        """Touches nothing yet."""
        self._path = path
        self._file: BinaryIO | None = None

    def begin(self) -> None:
        """Makes the file.

        Raises:
            ConfigError: it holds something, or cannot be written.
        """
        if self._path.exists() and self._path.stat().st_size:
            raise ConfigError(self._where, "holds something already; give another name, or --restart to overwrite it")
        self._open(0)

    def go_on(self, written: int) -> None:
        """Cuts off what was written after the last commit.

        Raises:
            ConfigError: it is not the file that the replay began with, or cannot be written.
        """
        there = self._path.stat().st_size if self._path.exists() else 0
        if there < written:
            raise ConfigError(
                self._where, f"holds {there} bytes of the {written} that were written to it; --restart begins anew"
            )
        self._open(written)

    def forget(self) -> None:
        """Removes what an earlier run wrote."""
        self._path.unlink(missing_ok=True)

    def deliver(self, judged: Judged) -> None:
        """Adds lines."""
        if self._file is not None:
            self._file.write(b"".join(message.value + b"\n" for message in judged.messages))

    def settle(self) -> int:
        """Has the disk take what was written; returns its length."""
        if self._file is None:
            return 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    @property
    def _where(self) -> str:
        return f"--out {self._path}"

    def _open(self, size: int) -> None:
        try:
            self._file = self._path.open("ab")
            self._file.truncate(size)
        except OSError as error:
            raise ConfigError(self._where, f"cannot be written: {error.strerror}") from error
