"""Reads the end or a time range of a topic without a group: for schema inference and training, never for the daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, pairwise
from typing import Any

from monitor.errors import BrokerError
from monitor.settings import Settings
from monitor.stream.broker import broker_errors, client_options

POLL_S = 1.0
SILENCE_S = 15.0


@dataclass(frozen=True)
class TimeRange:
    """Half-open range of Kafka timestamps; None is unbounded.

    Attributes:
        start: first moment.
        end: first moment that is not in it any more.
    """

    start: datetime | None = None
    end: datetime | None = None


def read_topic(
    topic: str,
    settings: Settings,
    *,
    window: TimeRange | None = None,
    last: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Any]:
    """The last records of a range, partition by partition, as they stood when the call began.

    Args:
        topic: must exist.
        settings: how to reach Kafka.
        window: which records; all of them when None.
        last: at most so many, shared out over the partitions by their size.
        on_progress: told how many records of how many were read.

    Returns:
        kafka-python's ConsumerRecord, ascending by time.

    Raises:
        BrokerError: no broker, no topic, no access, or silence.
    """
    records = iterate_topic(topic, settings, window=window, last=last, on_progress=on_progress)
    return sorted(records, key=lambda record: record.timestamp)


def iterate_topic(
    topic: str,
    settings: Settings,
    *,
    window: TimeRange | None = None,
    last: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Any]:
    """The same one by one, for topics that are too large to be held; ascending within a partition only.

    Raises:
        BrokerError: as `read_topic`.
    """
    from kafka import KafkaConsumer, TopicPartition

    with broker_errors(settings, f"reading topic {topic!r}"):
        consumer = KafkaConsumer(
            **client_options(settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            isolation_level="read_committed",
            max_poll_records=10_000,
            max_partition_fetch_bytes=settings.fetch_max_bytes,
            metrics_enabled=False,
        )
        try:
            partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
            if not partitions:
                raise BrokerError(settings.bootstrap_servers, f"no topic {topic!r}")
            spans = _last_of(range_offsets(consumer, partitions, window or TimeRange()), last)
            yield from _iterate_spans(consumer, settings, spans, on_progress)
        finally:
            consumer.close()


def range_offsets(consumer: Any, partitions: list[Any], window: TimeRange) -> dict[Any, tuple[int, int]]:
    """Per partition the first and the next-after-last offset of a time range."""
    starts, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    if window.start is not None:
        starts |= _offsets_at(consumer, partitions, window.start, ends)
    if window.end is not None:
        ends |= _offsets_at(consumer, partitions, window.end, ends)
    return {partition: (starts[partition], max(starts[partition], ends[partition])) for partition in partitions}


def _last_of(spans: dict[Any, tuple[int, int]], last: int | None) -> dict[Any, tuple[int, int]]:
    """The last so many offsets of some spans; partitions without any are left out."""
    sizes = [end - start for start, end in spans.values()]
    shares = sizes if last is None else _share_out(last, sizes)
    return {p: (end - share, end) for (p, (_, end)), share in zip(spans.items(), shares, strict=True) if share}


def _share_out(last: int, sizes: list[int]) -> list[int]:
    """Integers in proportion to `sizes` and no larger, whose sum is `last`, or that of `sizes` where it is less."""
    total = sum(sizes)
    wanted = min(last, total)
    bounds = [wanted * until // total for until in accumulate(sizes)] if total else [0] * len(sizes)
    return [end - start for start, end in pairwise([0, *bounds])]


def _offsets_at(consumer: Any, partitions: list[Any], moment: datetime, ends: dict[Any, int]) -> dict[Any, int]:
    """First offset at or after a moment; the end of the partition when there is none."""
    wanted = dict.fromkeys(partitions, int(moment.timestamp() * 1000))
    found = consumer.offsets_for_times(wanted)
    return {partition: found[partition].offset if found.get(partition) else ends[partition] for partition in partitions}


def _iterate_spans(
    consumer: Any, settings: Settings, spans: dict[Any, tuple[int, int]], on_progress: Callable[[int, int], None] | None
) -> Iterator[Any]:
    consumer.assign(list(spans))
    for partition, (start, _) in spans.items():
        consumer.seek(partition, start)
    total = sum(end - start for start, end in spans.values())
    n_read = 0
    silent_s = 0.0
    while any(consumer.position(partition) < end for partition, (_, end) in spans.items()):
        polled = consumer.poll(timeout_ms=int(POLL_S * 1000))
        silent_s = 0.0 if polled else silent_s + POLL_S
        if silent_s >= SILENCE_S:
            raise BrokerError(
                settings.bootstrap_servers,
                f"sent nothing for {SILENCE_S:.0f} s, {n_read} of {total} records read",
            )
        for partition, batch in polled.items():
            end = spans[partition][1]
            wanted = [record for record in batch if record.offset < end]
            n_read += len(wanted)
            yield from wanted
            if consumer.position(partition) >= end:
                consumer.pause(partition)
        if on_progress is not None:
            on_progress(n_read, total)
