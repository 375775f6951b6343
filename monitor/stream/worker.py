"""The other threads: a few judge micro-batches side by side, one delivers their messages in the order of the batches.

This file is the whole boundary between the threads: closed batches go in through a bounded queue, acknowledged ones come
out through another. `Worker.turn` is one step of the delivery and can be called without any thread.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Protocol

from monitor.errors import GanwatchError
from monitor.stream.batches import MicroBatch
from monitor.stream.judged import Judge, Judged
from monitor.stream.sink import DeliveryAbortedError


class OnTheWay(Protocol):
    """A micro-batch whose messages were sent."""

    def takes(self, judged: Judged) -> bool:
        """Whether the next micro-batch joined it: its messages are sent, and both are completed together."""

    def complete(self, abort: threading.Event, on_waiting: Callable[[str, bool], None]) -> Sequence[Judged]:
        """Returns what is delivered, once it is: all, or what was left when partitions were given away meanwhile.

        Raises:
            DeliveryAbortedError: `abort` was set before.
        """


@dataclass(frozen=True)
class Acknowledged:
    """A micro-batch whose messages the broker has; its offsets may be committed.

    Attributes:
        judged: the batch and what became of it.
        publish_s: wall seconds from sending to the last acknowledgement, as far as the worker waited for it.
    """

    judged: Judged
    publish_s: float


@dataclass
class Worker:
    """Judges and delivers.

    Attributes:
        judge: the pipeline in service; another one judges what is offered from then on.
        admit: told each judged batch in order, before anything of it is sent; raises when the daemon had better stop.
        executor: runs it; its threads are how many batches are judged at a time.
        send: starts the delivery of a micro-batch; the promise of `delivery` is made there.
        max_batches: how many may be in here before the first of them is sent: being judged, or waiting for that or their turn.
        on_waiting: told a topic and whether delivery to it is stuck.
        acknowledged: finished batches, in order.
        failure: what ended the worker, if anything did.
    """

    judge: Judge
    admit: Callable[[Judged], None]
    executor: Executor
    send: Callable[[Judged], OnTheWay]
    max_batches: int
    on_waiting: Callable[[str, bool], None]
    acknowledged: queue.SimpleQueue[Acknowledged] = field(default_factory=queue.SimpleQueue)
    failure: Exception | None = None
    abort: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._room = threading.Semaphore(self.max_batches)
        self._inbox: queue.SimpleQueue[Future[Judged] | None] = queue.SimpleQueue()
        self._on_the_way: OnTheWay | None = None
        self._thread = threading.Thread(target=self._run, name="ganwatch-worker", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def offer(self, batch: MicroBatch, timeout_s: float) -> bool:
        """Has a closed batch judged; False when there was no room for `timeout_s`."""
        if not self._room.acquire(timeout=timeout_s):
            return False
        self._inbox.put(self.executor.submit(self.judge.judge, batch))
        return True

    def finish(self, timeout_s: float) -> None:
        """Completes what was queued; what is not acknowledged within `timeout_s` stays uncommitted."""
        self._inbox.put(None)
        self._thread.join(timeout=timeout_s)
        self.abort.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        try:
            while self.turn():
                pass
        except DeliveryAbortedError:
            pass  # told to stop: what was on the way stays uncommitted and will be read again
        except Exception as error:
            self.failure = error

    def turn(self) -> bool:
        """One step: send what the next batch led to or, when none is waiting, wait for the last one's acknowledgements.

        Returns:
            False when `finish` was called and nothing is left.
        """
        try:
            judgement = self._inbox.get(block=self._on_the_way is None)
        except queue.Empty:
            self._complete()
            return True
        if judgement is None:
            self._complete()
            return False
        try:
            judged = judgement.result()
            self._room.release()
            self.admit(judged)
        except GanwatchError:
            self._complete()  # what was sent before is acknowledged and committed all the same
            raise
        if self._on_the_way is None or not self._on_the_way.takes(judged):
            self._complete()
            self._on_the_way = self.send(judged)
        return True

    def _complete(self) -> None:
        """Waits until what was sent is delivered, however long it takes."""
        if self._on_the_way is None:
            return
        started = time.perf_counter()
        delivered = self._on_the_way.complete(self.abort, self.on_waiting)
        self._on_the_way = None
        for judged in delivered:
            self.acknowledged.put(Acknowledged(judged, publish_s=(time.perf_counter() - started) / len(delivered)))
