"""What the daemon does while the schema registry cannot be reached: nothing is lost, nothing becomes a dead letter, it waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from monitor.encodings.schema_registry import SchemaRegistryError
from monitor.encodings.transcoding import Reader
from monitor.stream.sink import DeliveryAbortedError

log = logging.getLogger(__name__)

WAITING_REASON = "schema_registry"
FIRST_BACKOFF_S = 0.2
LAST_BACKOFF_S = 5.0


@dataclass(frozen=True)
class Waiting:
    """Asks until there is an answer. It is called in a thread that judges, and holds it up meanwhile.

    Attributes:
        abort: ends the waiting, when the daemon stops.
        on_waiting: told the reason and whether it is waited for.
    """

    abort: threading.Event
    on_waiting: Callable[[str, bool], None]

    def __call__(self, ask: Callable[[], Reader]) -> Reader:
        """What `ask` returns.

        Raises:
            DeliveryAbortedError: told to stop; the micro-batch stays uncommitted.
        """
        since: float | None = None
        backoff_s = FIRST_BACKOFF_S
        while not self.abort.is_set():
            try:
                reader = ask()
            except SchemaRegistryError as error:
                if since is None:
                    since = time.monotonic()
                    self.on_waiting(WAITING_REASON, True)
                    log.warning("waiting_for_schema_registry", extra={"error": str(error)})
                self.abort.wait(backoff_s)
                backoff_s = min(LAST_BACKOFF_S, 2 * backoff_s)
                continue
            if since is not None:
                self.on_waiting(WAITING_REASON, False)
                log.info("schema_registry_is_back", extra={"waited_s": round(time.monotonic() - since, 1)})
            return reader
        raise DeliveryAbortedError
