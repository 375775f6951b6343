"""Where a row plays: a real broker that it may kill, freeze and slow down, a folder, the committed model."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from monitor.model.bundle import Bundle
from tests import machines
from tests.broker.conftest import Stream
from tests.challengers import committed as committed_model
from tests.conftest import Kafka
from tests.daemon import Daemon, done_records
from tests.kafka_broker import KafkaBroker
from tests.topics import committed

PROPERTIES = {
    # So that a row can forbid to write to a topic.
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
    # A killed broker may register again only after this; the default of 9 s would make each outage longer.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
}
OUT = ("alerts", "dead-letters")
_HOOK = """import os, tests.faults.hooks as hooks
getattr(hooks, os.environ["FAULT_HOOK"])()
"""


@dataclass(frozen=True)
class Stage:
    """What a row is given.

    Attributes:
        broker: the one that all rows share, which each leaves running.
        folder: with features.toml and the registry of `tests.machines`.
        bundle: the model in it.
    """

    broker: KafkaBroker
    folder: Path
    bundle: Bundle

    def cleared(self, name: str) -> Stage:
        """For the next row: a folder of its own, and the broker as it should be."""
        self.broker.revive()
        return replace(self, folder=furnish(self.folder / name))

    @property
    def kafka(self) -> Kafka:
        """The broker as tests see it that only use it."""
        return Kafka(self.broker.bootstrap)

    def stream(self, partitions: int = 1) -> Stream:
        """Three new topics and a group."""
        kafka = self.kafka
        features, alerts, dead_letters = kafka.new_topic("features", partitions), *map(kafka.new_topic, OUT)
        return Stream(kafka, self.folder, features, alerts, dead_letters, f"group-{uuid.uuid4().hex[:8]}")

    def hooked(self, hook: str) -> dict[str, str]:
        """Environment in which a daemon begins by calling a function of `tests.faults.hooks`."""
        (self.folder / "sitecustomize.py").write_text(_HOOK)
        root = Path(__file__).parents[2]
        return {"PYTHONPATH": f"{self.folder}:{root}", "FAULT_HOOK": hook}


def furnish(folder: Path) -> Path:
    """A folder with `features.toml` and the registry of `tests.machines`, as a user has it."""
    folder.mkdir(exist_ok=True)
    (folder / "features.toml").write_text(machines.FEATURES_TOML)
    (folder / "registry").symlink_to(machines.REGISTRY)
    return folder


@contextmanager
def open_stage(folder: Path) -> Iterator[Stage]:
    """Starts the broker."""
    with KafkaBroker(folder / "kafka", PROPERTIES) as broker:
        yield Stage(broker, folder, committed_model())


def next_offsets(stream: Stream, partitions: int = 1) -> int:
    """Sum of the group's committed offsets."""
    found = committed(stream.kafka.bootstrap, stream.group, stream.features, range(partitions))
    return sum(offset or 0 for offset in found.values())


def wait_until_committed(
    daemon: Daemon, stream: Stream, records: int, partitions: int = 1, timeout_s: float = 120
) -> None:
    """Waits until the group has committed so many records."""
    daemon.wait_until(
        lambda: next_offsets(stream, partitions) >= records, f"done with {records} records", timeout_s, pause_s=0.2
    )


def wait_until_under_way(daemon: Daemon, records: int = 1) -> None:
    """Waits until so many records ended in this process."""
    daemon.wait_until(lambda: done_records(daemon.metrics()) >= records, "under way", pause_s=0.01)


def seconds_until(daemon: Daemon, holds: Callable[[], bool], what: str, timeout_s: float = 60.0) -> float:
    """Waits, and says how long that took."""
    started = time.monotonic()
    daemon.wait_until(holds, what, timeout_s, pause_s=0.02)
    return time.monotonic() - started


def waits_for(daemon: Daemon, reason: str) -> bool:
    """Whether the daemon says that it waits for something."""
    return daemon.metrics().get(f'ganwatch_waiting{{reason="{reason}"}}') == 1
