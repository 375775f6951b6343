"""Rows 10 and 14: records that are there and cannot be read, and records that are gone."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kafka import codec

from tests.broker.conftest import Stream
from tests.daemon import Daemon
from tests.faults.oracle import Inputs, compare
from tests.faults.outcome import Delivered, Outcome, summed
from tests.faults.stage import Stage, next_offsets, wait_until_committed
from tests.machines import as_json, readings
from tests.topics import publish

LONGEST_SEARCH_S = 1.0
BATCH = 100
SEARCH = ("partition_begun", "batch_unreadable")
IDLE_S = 2.0
BUSY = 0.2
SKIPPED = "ganwatch_records_skipped_total"


@dataclass(frozen=True)
class Passed:
    """How a daemon dealt with a gap.

    Attributes:
        delivered: what came out.
        demands: and whether that is as wanted.
        found_s: from its first record to when it said what is wrong.
    """

    delivered: Delivered
    demands: Mapping[str, bool]
    found_s: float


def unreadable_batches(stage: Stage, seed: int) -> Outcome:
    """Row 10. The second of three batches has a wrong checksum, or a codec that is not installed; both policies. T: until found."""
    assert not codec.has_snappy(), "python-snappy is installed here, so there is no missing codec to try"
    found: dict[str, Passed] = {}
    for fault, write, said in (
        ("wrong checksum", _write_corrupt, "its checksum (CRC) is wrong"),
        ("missing codec", _write_snappy, "pip install python-snappy"),
    ):
        stream = stage.stream()
        inputs = write(stage, stream, seed)
        found[f"{fault}, skip"] = _skip(stage, stream, inputs)
        found[f"{fault}, fail"] = _fail(stage, stream, inputs, said)
    return _outcome(found, "T is until found; either is skipped or ends the daemon, as set", LONGEST_SEARCH_S)


def _skip(stage: Stage, stream: Stream, inputs: Inputs) -> Passed:
    with stream.daemon(on_unreadable_batch="skip") as daemon:
        wait_until_committed(daemon, stream, 3 * BATCH)
        skipped = daemon.metrics()[SKIPPED]
        busy = _share_of_a_core(daemon)
        found_s = _seconds_between(daemon, *SEARCH)
        assert daemon.stop()[0] == 0
    delivered = compare(stream, stage.bundle, inputs=inputs)
    return Passed(
        delivered,
        delivered.exactly_once
        | {"exactly that batch is skipped and counted": skipped == BATCH, "no spinning": busy < BUSY},
        found_s,
    )


def _fail(stage: Stage, stream: Stream, inputs: Inputs, said: str) -> Passed:
    """A second group, which must stop in front of the batch; what comes before it is delivered."""
    alone = Stream(stream.kafka, stream.folder, stream.features, *_other_topics(stage), f"{stream.group}-fail")
    daemon = alone.daemon().start()
    code = daemon.wait()
    found_s = _seconds_between(daemon, *SEARCH)
    line = daemon.output().splitlines()[-1]
    before = {place: value for place, value in inputs.items() if place[1] < BATCH}
    delivered = compare(alone, stage.bundle, inputs=before)
    return Passed(
        delivered,
        delivered.exactly_once
        | {
            "exit code 5": code == 5,
            "topic, partition, offset and remedy are named": f"offset {BATCH} of {stream.features}/0" in line
            and said in line,
            "what comes before is committed": next_offsets(alone) == BATCH,
        },
        found_s,
    )


def _other_topics(stage: Stage) -> tuple[str, str]:
    fresh = stage.stream()
    return fresh.alerts, fresh.dead_letters


def _write_corrupt(stage: Stage, stream: Stream, seed: int) -> Inputs:
    """The broker is stopped, a bit in the second batch's file is turned over, the broker is started."""
    inputs = _write(stream, seed)
    stage.broker.stop()
    file = stage.broker.folder / "logs" / f"{stream.features}-0" / "00000000000000000000.log"
    turn_bit(file, BATCH)
    stage.broker.start()
    return inputs


def _write_snappy(_: Stage, stream: Stream, seed: int) -> Inputs:
    """The second batch is by a producer that compresses with snappy."""
    return _write(stream, seed, second="snappy")


def _write(stream: Stream, seed: int, *, second: str = "lz4") -> Inputs:
    """Writes three batches of anomalies; returns all but the second."""
    values = as_json(readings(3 * BATCH, seed=7000 + seed, anomalies=3 * BATCH))
    for number, compression in enumerate(("lz4", second, "lz4")):
        publish_batch(stream, values[number * BATCH : (number + 1) * BATCH], compression)
    return {(0, offset): value for offset, value in enumerate(values) if not BATCH <= offset < 2 * BATCH}


def publish_batch(stream: Stream, values: list[bytes], compression: str) -> None:
    """Writes all values as one record batch."""
    from confluent_kafka import Producer

    producer = Producer(
        {"bootstrap.servers": stream.kafka.bootstrap, "compression.type": compression, "linger.ms": 500}
    )
    for value in values:
        producer.produce(stream.features, value=value, partition=0)
    assert producer.flush(30) == 0


def turn_bit(file: Path, offset: int) -> None:
    """Damages the last byte of the record batch that begins at an offset."""
    content = bytearray(file.read_bytes())
    place = 0
    while int.from_bytes(content[place : place + 8], "big") != offset:
        place += 12 + int.from_bytes(content[place + 8 : place + 12], "big")
    content[place + 11 + int.from_bytes(content[place + 8 : place + 12], "big")] ^= 1
    file.write_bytes(content)


def offsets_lost(stage: Stage, seed: int, *, records: int = 300) -> Outcome:
    """Row 14. Retention overtakes the daemon while it is stopped; each policy of `on_offset_lost`."""
    done, gone = records // 3, 2 * records // 3 + 50
    found = {}
    for policy, goes_on_at in {"earliest": gone, "latest": records, "fail": None}.items():
        stream = stage.stream()
        values = as_json(readings(records + 100, seed=8000 + seed, anomalies=records + 100))
        publish(stream.kafka.bootstrap, stream.features, values[:done])
        with stream.daemon() as daemon:
            wait_until_committed(daemon, stream, done)
        publish(stream.kafka.bootstrap, stream.features, values[done:records])
        _delete_before(stream, gone)
        left = {
            (0, offset): value
            for offset, value in enumerate(values)
            if offset < done or offset >= (goes_on_at or records + 100)
        }
        found[policy] = (
            _stops(stage, stream, left, done)
            if goes_on_at is None
            else _goes_on(stage, stream, left, policy, goes_on_at - done, values[records:])
        )
    return _outcome(found, "each gap counted exactly; T is until noticed", 30.0)


def _goes_on(stage: Stage, stream: Stream, left: Inputs, policy: str, gap: int, later: list[bytes]) -> Passed:
    with stream.daemon(on_offset_lost=policy) as daemon:
        daemon.wait_until(lambda: "offsets_lost" in daemon.output(), "aware of the gap")
        publish(stream.kafka.bootstrap, stream.features, later)
        wait_until_committed(daemon, stream, max(offset for _, offset in left) + 1)
        skipped = daemon.metrics()[SKIPPED]
        found_s = _seconds_between(daemon, "partitions_assigned", "offsets_lost")
        assert daemon.stop()[0] == 0
    delivered = compare(stream, stage.bundle, inputs=left)
    return Passed(delivered, delivered.exactly_once | {"the gap is counted exactly": skipped == gap}, found_s)


def _stops(stage: Stage, stream: Stream, left: Inputs, done: int) -> Passed:
    daemon = stream.daemon(on_offset_lost="fail").start()
    code = daemon.wait()
    named = f"offset {done} of {stream.features}/0 no longer exists" in daemon.output().splitlines()[-1]
    delivered = compare(stream, stage.bundle, inputs=left)
    demands = {
        "exit code 5, with the offset": code == 5 and named,
        "nothing is committed": next_offsets(stream) == done,
    }
    return Passed(delivered, delivered.exactly_once | demands, 0.0)


def _delete_before(stream: Stream, offset: int) -> None:
    from kafka import KafkaAdminClient, TopicPartition

    admin = KafkaAdminClient(bootstrap_servers=stream.kafka.bootstrap)
    admin.delete_records({TopicPartition(stream.features, 0): offset})
    admin.close()


def _outcome(found: Mapping[str, Passed], notes: str, longest_s: float) -> Outcome:
    demands = {f"{case}: {demand}": held for case, one in found.items() for demand, held in one.demands.items()}
    slowest_s = max(one.found_s for one in found.values())
    return Outcome(
        demands=demands | {f"found within {longest_s:g} s": slowest_s <= longest_s},
        delivered=summed(one.delivered for one in found.values()),
        recover_s=slowest_s,
        notes=notes,
    )


def _seconds_between(daemon: Daemon, first: str, second: str) -> float:
    """Between two events of its log."""
    events: list[dict[str, Any]] = [json.loads(line) for line in daemon.output().splitlines() if line.startswith("{")]
    times = [next(event["time"] for event in events if event["event"] == name) for name in (first, second)]
    begun, ended = (datetime.fromisoformat(moment) for moment in times)
    return (ended - begun).total_seconds()


def _share_of_a_core(daemon: Daemon) -> float:
    before = daemon.metrics()["process_cpu_seconds_total"]
    time.sleep(IDLE_S)
    return (daemon.metrics()["process_cpu_seconds_total"] - before) / IDLE_S
