"""The worker: a batch is acknowledged after its messages are, in order, one on the way while the next is judged."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from monitor.errors import ConfigError
from monitor.stream.batches import MicroBatch
from monitor.stream.judged import Judged
from monitor.stream.sink import DeliveryAbortedError, Message
from monitor.stream.worker import OnTheWay, Worker
from tests.monitor.records import batch_of, segment

TIMEOUT_S = 10.0


@dataclass
class World:
    """Judges and delivers by writing down what happens; a batch bears the number of its first offset.

    Attributes:
        events: what happened, in order.
        broken: batches that cannot be judged, with the error.
        refused: batches after which the daemon had better stop, with the error.
        together: how many batches are delivered together at most.
        given_up: batches whose partitions are another replica's by the time they are delivered.
        held: delivery waits for this before the broker answers.
    """

    events: list[str] = field(default_factory=list)
    broken: dict[int, Exception] = field(default_factory=dict)
    refused: dict[int, Exception] = field(default_factory=dict)
    together: int = 1
    given_up: set[int] = field(default_factory=set)
    held: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.held.set()

    def judge(self, batch: MicroBatch) -> Judged:
        number = batch.segments[0].first_offset
        self.events.append(f"judge {number}")
        if number in self.broken:
            raise self.broken[number]
        message = Message("alerts", None, str(number).encode(), lane=0)
        return Judged(
            batch=batch,
            by=self,  # type: ignore[arg-type]
            messages=[message],
            scores=np.zeros(1),
            p_values=np.ones(1),
            n_flagged=1,
            invalid=(),
            imputed={},
            timestamps_ms=np.zeros(1, dtype=np.int64),
            stage_seconds={},
        )

    def admit(self, judged: Judged) -> None:
        number = judged.batch.segments[0].first_offset
        if number in self.refused:
            raise self.refused[number]

    def send(self, judged: Judged) -> OnTheWay:
        number = judged.messages[0].value.decode()
        self.events.append(f"send {number}")
        return Sent(self, number, [judged])


@dataclass
class Sent:
    world: World
    number: str
    judged: list[Judged]

    def takes(self, judged: Judged) -> bool:
        """As many as the world says."""
        if len(self.judged) == self.world.together:
            return False
        self.judged.append(judged)
        self.world.events.append(f"join {number_of(judged)}")
        return True

    def complete(self, abort: threading.Event, on_waiting: Callable[[str, bool], None]) -> Sequence[Judged]:
        while not self.world.held.wait(0.005):
            on_waiting("alerts", True)
            if abort.is_set():
                raise DeliveryAbortedError
        self.world.events.append(f"acknowledged {self.number}")
        return [judged for judged in self.judged if number_of(judged) not in self.world.given_up]


def number_of(judged: Judged) -> int:
    return judged.batch.segments[0].first_offset


@pytest.fixture
def world() -> World:
    return World()


class AtOnce(Executor):
    """Does what it is told before it goes on: no thread, one order of events."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


def worker_of(
    world: World, max_batches: int = 3, waits: list[tuple[str, bool]] | None = None, executor: Executor | None = None
) -> Worker:
    report = (lambda topic, waiting: waits.append((topic, waiting))) if waits is not None else (lambda *_: None)
    return Worker(
        judge=world,  # type: ignore[arg-type]
        admit=world.admit,
        executor=executor or AtOnce(),
        send=world.send,
        max_batches=max_batches,
        on_waiting=report,
    )


def numbered(number: int) -> MicroBatch:
    return batch_of(segment([b"{}"], first=number))


def acknowledged(worker: Worker) -> list[int]:
    """Numbers of the batches that may be committed, in the order in which the worker gave them back."""
    numbers = []
    while True:
        try:
            numbers.append(worker.acknowledged.get_nowait().judged.batch.segments[0].first_offset)
        except queue.Empty:
            return numbers


def test_each_batch_is_sent_in_its_turn_once_the_one_before_it_is_acknowledged(world: World) -> None:
    worker = worker_of(world, max_batches=3)
    for number in (1, 2, 3):
        assert worker.offer(numbered(number), 0)
    for _ in range(4):
        assert worker.turn()
    assert world.events == [
        "judge 1", "judge 2", "judge 3",
        "send 1", "acknowledged 1", "send 2", "acknowledged 2", "send 3", "acknowledged 3",
    ]  # fmt: skip
    assert acknowledged(worker) == [1, 2, 3]


def test_a_batch_is_given_back_only_after_its_own_messages_are_acknowledged(world: World) -> None:
    worker = worker_of(world)
    worker.offer(numbered(1), 0)
    worker.turn()
    assert acknowledged(worker) == []
    worker.offer(numbered(2), 0)
    worker.turn()
    assert acknowledged(worker) == [1]
    worker.turn()
    assert acknowledged(worker) == [2]


def test_what_was_sent_is_completed_when_the_next_batch_cannot_be_judged(world: World) -> None:
    world.broken[2] = ConfigError("topic", "too many bad records")
    worker = worker_of(world)
    for number in (1, 2):
        worker.offer(numbered(number), 0)
    worker.turn()
    with pytest.raises(ConfigError):
        worker.turn()
    assert world.events[-1] == "acknowledged 1"
    assert acknowledged(worker) == [1]


def test_a_failure_ends_the_thread_and_is_kept(world: World) -> None:
    error = world.broken[2] = ConfigError("topic", "too many bad records")
    worker = worker_of(world, max_batches=3)
    for number in (1, 2, 3):
        worker.offer(numbered(number), 0)
    worker.start()
    worker.finish(TIMEOUT_S)
    assert worker.failure is error
    assert acknowledged(worker) == [1]
    assert "send 3" not in world.events


def test_an_error_of_our_own_code_is_kept_too_and_commits_nothing_of_its_batch(world: World) -> None:
    world.broken[1] = ZeroDivisionError("a bug")
    worker = worker_of(world)
    worker.offer(numbered(1), 0)
    worker.start()
    worker.finish(TIMEOUT_S)
    assert isinstance(worker.failure, ZeroDivisionError)
    assert acknowledged(worker) == []


def test_finishing_completes_all_that_was_queued(world: World) -> None:
    worker = worker_of(world, max_batches=4)
    worker.start()
    for number in range(50):
        assert worker.offer(numbered(number), TIMEOUT_S)
    worker.finish(TIMEOUT_S)
    assert worker.failure is None
    assert acknowledged(worker) == list(range(50))
    assert [event for event in world.events if event.startswith("send")] == [f"send {number}" for number in range(50)]


def test_what_the_broker_does_not_acknowledge_in_time_stays_uncommitted(world: World) -> None:
    world.held.clear()
    waits: list[tuple[str, bool]] = []
    worker = worker_of(world, waits=waits)
    worker.start()
    for number in (1, 2, 3):
        worker.offer(numbered(number), TIMEOUT_S)
    worker.finish(0.2)
    assert acknowledged(worker) == []
    assert [event for event in world.events if not event.startswith("judge")] == ["send 1"]
    assert not worker._thread.is_alive()
    assert worker.failure is None
    assert ("alerts", True) in waits


def test_there_is_room_for_so_many_batches_and_again_when_one_was_sent(world: World) -> None:
    worker = worker_of(world, max_batches=2)
    assert worker.offer(numbered(1), 0)
    assert worker.offer(numbered(2), 0)
    assert not worker.offer(numbered(3), 0.01)
    worker.turn()
    assert worker.offer(numbered(3), 0)


def test_batches_are_judged_side_by_side_and_delivered_in_their_order(world: World) -> None:
    second_is_judged = threading.Event()
    judge = world.judge

    def later_first(batch: MicroBatch) -> Judged:
        if batch.segments[0].first_offset == 1:
            assert second_is_judged.wait(TIMEOUT_S), "only one batch is judged at a time"
        judged = judge(batch)
        second_is_judged.set()
        return judged

    world.judge = later_first  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as executor:
        worker = worker_of(world, executor=executor)
        for number in (1, 2):
            worker.offer(numbered(number), 0)
        for _ in range(3):
            worker.turn()
    assert world.events == ["judge 2", "judge 1", "send 1", "acknowledged 1", "send 2", "acknowledged 2"]
    assert acknowledged(worker) == [1, 2]


def test_nothing_of_a_batch_is_sent_that_makes_the_daemon_stop(world: World) -> None:
    world.refused[2] = ConfigError("topic", "too many bad records")
    worker = worker_of(world)
    for number in (1, 2, 3):
        worker.offer(numbered(number), 0)
    worker.turn()
    with pytest.raises(ConfigError):
        worker.turn()
    assert [event for event in world.events if "judge" not in event] == ["send 1", "acknowledged 1"]


def test_finishing_ends_within_its_time_although_the_queue_is_full_and_stuck(world: World) -> None:
    world.held.clear()
    worker = worker_of(world, max_batches=1)
    worker.start()
    for number in range(4):
        worker.offer(numbered(number), 0.1)
    worker.finish(0.2)
    assert not worker._thread.is_alive()
    assert acknowledged(worker) == []


def test_a_turn_after_the_end_was_asked_completes_and_says_so(world: World) -> None:
    worker = worker_of(world)
    worker.offer(numbered(1), 0)
    worker.turn()
    worker._inbox.put(None)
    assert worker.turn() is False
    assert acknowledged(worker) == [1]


def test_a_batch_that_is_another_replica_s_meanwhile_is_not_given_back(world: World) -> None:
    world.given_up.add(2)
    worker = worker_of(world)
    for number in (1, 2, 3):
        worker.offer(numbered(number), 0)
    for _ in range(4):
        worker.turn()
    assert acknowledged(worker) == [1, 3]


def test_batches_that_wait_join_the_one_on_its_way_as_far_as_it_takes_them(world: World) -> None:
    world.together = 2
    worker = worker_of(world)
    for number in (1, 2, 3):
        worker.offer(numbered(number), 0)
    for _ in range(4):
        worker.turn()
    assert [event for event in world.events if "judge" not in event] == [
        "send 1", "join 2", "acknowledged 1", "send 3", "acknowledged 3",
    ]  # fmt: skip
    assert acknowledged(worker) == [1, 2, 3]


def test_the_time_spent_waiting_for_the_broker_is_measured(world: World) -> None:
    worker = worker_of(world)
    worker.offer(numbered(1), 0)
    worker.turn()
    world.held.clear()
    threading.Timer(0.1, world.held.set).start()
    worker.turn()
    assert 0.05 <= worker.acknowledged.get_nowait().publish_s < TIMEOUT_S
