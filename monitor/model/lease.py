"""A lease in the registry: whoever holds it may retrain a model; one whose holder died expires by itself.

leases/<model>/000007.json    the highest number is the truth; taking, renewing and giving back each append one

It saves double work; it is not what keeps the registry whole, since promotions are exclusive by themselves. Its times are
those of the writers' clocks: a clock that is wrong by more than `ttl_s` lets two trainers work at once, and no more than that.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec

from monitor.errors import GanwatchError
from monitor.model.numbered_log import NumberedLog
from monitor.model.store import Store

log = logging.getLogger(__name__)

# Only the last entry counts; a few more stay for people who look what happened.
_KEPT_ENTRIES = 5


class LeaseEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the log.

    Attributes:
        holder: who it is, for people: host, process, purpose.
        token: random, one for each time the lease is taken; empty when it was given back.
        time: ISO 8601, UTC, when this was written.
        expires: seconds since 1970.
        id: random; no two entries are alike.
    """

    holder: str
    token: str
    time: str
    expires: float
    id: str


class Lease:
    """The lease of one model, as one trainer sees it."""

    def __init__(
        self, store: Store, model: str, *, holder: str, ttl_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        """Takes nothing yet.

        Args:
            store: the registry's files.
            model: what is to be trained.
            holder: who asks, for people.
            ttl_s: seconds after which the lease of a holder who no longer renews it is free.
            clock: seconds since 1970.
        """
        self._log = NumberedLog(store, f"leases/{model}", LeaseEntry)
        self._holder = holder
        self._ttl_s = ttl_s
        self._clock = clock
        self._token = secrets.token_hex(8)

    def acquire(self) -> LeaseEntry | None:
        """Takes the lease if it is free; of several at once exactly one gets it.

        Returns:
            None when it was taken, else the entry of whoever holds it.

        Raises:
            BundleError: the registry cannot be reached or written to.
        """
        number, last = self._log.last()
        if last is not None and last.token and last.token != self._token and last.expires > self._clock():
            return last
        if self._log.append(number + 1, self._entry(self._token, self._ttl_s)):
            self._log.forget_before(number + 1 - _KEPT_ENTRIES)
            return None
        return self._log.last()[1]

    def renew(self) -> bool:
        """Puts the expiry off; False when the lease is not ours any more."""
        number, last = self._log.last()
        if last is None or last.token != self._token:
            return False
        renewed = self._log.append(number + 1, self._entry(self._token, self._ttl_s))
        self._log.forget_before(number + 1 - _KEPT_ENTRIES)
        return renewed

    def held(self) -> bool:
        """Whether it is ours and has not expired."""
        last = self._log.last()[1]
        return last is not None and last.token == self._token and last.expires > self._clock()

    def release(self) -> None:
        """Gives it back, if it is still ours."""
        number, last = self._log.last()
        if last is not None and last.token == self._token:
            self._log.append(number + 1, self._entry("", 0.0))

    def _entry(self, token: str, ttl_s: float) -> LeaseEntry:
        now = self._clock()
        return LeaseEntry(
            holder=self._holder,
            token=token,
            time=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
            expires=now + ttl_s,
            id=secrets.token_hex(8),
        )


@contextmanager
def renewed_in_background(lease: Lease, every_s: float) -> Iterator[None]:
    """Renews a lease that was taken until the block ends, then gives it back. Whether it is still held, `held` tells."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(every_s):
            try:
                if not lease.renew():
                    log.warning("lease_lost")
                    return
            except GanwatchError as error:  # the next attempt may find the registry again before the lease expires
                log.warning("lease_not_renewed", extra={"error": str(error)})

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        lease.release()
