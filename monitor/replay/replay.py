"""The loop of a replay: read → judge with the daemon's pipeline → deliver marked alerts → commit progress under its own group."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from monitor.alerting.alert import marked_as_replay
from monitor.errors import ConfigError
from monitor.model.bundle import Bundle
from monitor.replay.destination import AlertFile, AlertTopic, Destination
from monitor.replay.history import History
from monitor.replay.progress import PartitionProgress, counted, next_offsets, outcome_by_partition
from monitor.settings import Settings
from monitor.stream.batches import MicroBatch
from monitor.stream.broker import broker_errors, inspect_cluster
from monitor.stream.judged import Judged
from monitor.stream.pipeline import Pipeline
from monitor.stream.topic_reader import TimeRange

COMMIT_S = 0.5


@dataclass(frozen=True)
class Request:
    """What is to be replayed.

    Attributes:
        window: which records, by Kafka's timestamps.
        out: file for the alerts; None sends them to the alert topic.
        name: tells replays apart; from range, model and destination by default.
        restart: begin anew, whatever an earlier run has done.
    """

    window: TimeRange
    out: Path | None = None
    name: str | None = None
    restart: bool = False


@dataclass
class Replay:
    """A replay under way.

    Attributes:
        settings: `group_id` is that of the replay.
        bundle: the model.
        history: what is read.
        pipeline: what judges, the daemon's.
        destination: where alerts go.
        n_now: records done by this run.
        seconds: of this run.
    """

    settings: Settings
    bundle: Bundle
    history: History
    pipeline: Pipeline
    destination: Destination
    n_now: int = 0
    seconds: float = 0.0
    _next_offsets: dict[int, int] = field(default_factory=dict)

    def run(self, on_progress: Callable[[Replay], None]) -> None:
        """Until the end of the range.

        Args:
            on_progress: called after each micro-batch.

        Raises:
            BrokerError: Kafka went away; the same command goes on.
        """
        started = time.monotonic()
        committed_at = started
        for judged in self._judged():
            self._deliver(judged)
            now = time.monotonic()
            self.seconds = now - started
            on_progress(self)
            if now - committed_at >= COMMIT_S:
                self._commit()
                committed_at = now
        self._next_offsets = {number: own.end for number, own in self.history.progress.items()}
        self._note_skipped()
        self._commit()
        self.seconds = time.monotonic() - started

    def begin(self) -> None:
        """Fixes the range and prepares the destination; refuses to go on with another model.

        Raises:
            ConfigError: an earlier run of this replay scored with another model.
        """
        progress = self.history.progress
        if not self.history.resumed:
            self.destination.begin()
        else:
            self._refuse_other_model()
            self.destination.go_on(max(own.written for own in progress.values()))
        for number, own in progress.items():
            progress[number] = msgspec.structs.replace(own, sha256=self.bundle.sha256)
        self._next_offsets = self.history.positions()
        self._commit()

    def _refuse_other_model(self) -> None:
        others = {own.sha256 for own in self.history.progress.values()} - {self.bundle.sha256, ""}
        if others:
            raise ConfigError(
                f"replay {self.settings.group_id}",
                f"was begun with a model of SHA-256 {others.pop()[:8]}…, but {self.bundle.version} would go on; "
                "pin the old one with --model-version, or --restart",
            )

    def _judged(self) -> Iterator[Judged]:
        """Micro-batches in the order in which they were read; several are judged at a time."""
        n_threads = self.settings.judge_threads
        waiting: deque[Future[Judged]] = deque()
        with ThreadPoolExecutor(n_threads, thread_name_prefix="ganwatch-judge") as judges:
            while not self.history.exhausted:
                batch = self.history.poll()
                if batch is not None:
                    waiting.append(judges.submit(self._judge, batch))
                if waiting and (batch is None or len(waiting) > n_threads):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _judge(self, batch: MicroBatch) -> Judged:
        """As the daemon does; what is left of the messages are the alerts, marked."""
        judged = self.pipeline.judge(batch)
        alerts = [message for message in judged.messages if message.topic == self.settings.alerts_topic]
        marked = [replace(message, value=marked_as_replay(message.value)) for message in alerts]
        return replace(judged, messages=marked)

    def _deliver(self, judged: Judged) -> None:
        self.destination.deliver(judged)
        progress = self.history.progress
        for number, own in outcome_by_partition(judged).items():
            progress[number] = counted(progress[number], own)
        self._next_offsets |= next_offsets(judged.batch.segments)
        self.n_now += judged.batch.n_rows

    def _note_skipped(self) -> None:
        progress = self.history.progress
        for number, n_skipped in self.history.take_skipped().items():
            progress[number] = msgspec.structs.replace(progress[number], skipped=progress[number].skipped + n_skipped)

    def _commit(self) -> None:
        """All partitions at once, so that what stands beside their offsets agrees."""
        written = self.destination.settle()
        progress = self.history.progress
        for number, own in progress.items():
            progress[number] = msgspec.structs.replace(own, written=written)
        self.history.commit(self._next_offsets)


def replay(settings: Settings, bundle: Bundle, request: Request, on_progress: Callable[[Replay], None]) -> Replay:
    """Scores a range and returns what came of it; an earlier run of the same replay that was cut short is gone on with.

    Args:
        settings: of the stream; its group is left alone.
        bundle: the model.
        request: what is to be replayed.
        on_progress: called after each micro-batch.

    Raises:
        ConfigError: another model, or a file that cannot be written.
        BrokerError: no broker, no access, no topic; or Kafka went away.
    """
    own = settings.model_copy(update={"group_id": group_of(settings, request), "delivery": "at_least_once"})
    needed = {own.features_topic: "READ"} | ({} if request.out else {own.alerts_topic: "WRITE"})
    cluster = inspect_cluster(own, tuple(needed), own.features_topic, needed)
    file = AlertFile(request.out) if request.out else None
    if file is not None and request.restart:
        file.forget()
    history = History(own, request.window)
    destination = file or AlertTopic(own)
    running = Replay(own, bundle, history, Pipeline(bundle, own, cluster), destination)
    try:
        with broker_errors(own, f"replaying topic {own.features_topic!r}"):
            history.open(anew=request.restart)
            running.begin()
            running.run(on_progress)
    finally:
        destination.close()
        history.close()
    return running


def group_of(settings: Settings, request: Request) -> str:
    """The group of a replay: the live one's name, and a part of its own that is the same for the same replay."""
    window = request.window
    parts = (
        settings.features_topic,
        window.start,
        window.end,
        settings.model,
        settings.model_version,
        settings.threshold,
        settings.target_alert_rate,
        settings.threshold_method,
        settings.false_discovery_rate,
        settings.alerts_topic if request.out is None else request.out.resolve(),
    )
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()
    return f"{settings.group_id}-replay-{request.name or digest[:8]}"


def total(progress: dict[int, PartitionProgress]) -> PartitionProgress:
    """All partitions together; start and end mean nothing in it."""
    whole = PartitionProgress(start=0, end=0)
    for own in progress.values():
        whole = counted(whole, own)
    return whole
