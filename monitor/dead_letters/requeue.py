"""Sends dead letters back to the features topic, once their records can be scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from monitor.dead_letters.letters import REQUEUED_FROM, REQUEUED_RECORD, DeadLetter, Place
from monitor.dead_letters.selection import Selection
from monitor.errors import BrokerError
from monitor.model.decode import RecordDecoder
from monitor.settings import Settings
from monitor.stream.broker import broker_errors, client_options, describe_kafka_error

CHUNK_ROWS = 100
_ACKNOWLEDGED_S = 35.0
_LARGEST_REQUEST = 64 * 2**20


@dataclass(frozen=True)
class Requeued:
    """A record on its way back.

    Attributes:
        letter: it comes from.
        value: to send; None for a record without a value.
    """

    letter: DeadLetter
    value: bytes | None


@dataclass
class Plan:
    """What is to be sent, and counts of what is not.

    Attributes:
        settings: of the stream.
        selection: which letters are meant.
        repairs: new values by partition and offset; None to send records as they were.
        decoder: judges whether they can be scored now; None to send them anyway.
        sent: records by their old reason.
        left: letters that are not sent, by why.
        still_invalid: those left because they would be dead letters again, by the reason they would have.
    """

    settings: Settings
    selection: Selection
    repairs: Mapping[tuple[int, int], bytes] | None
    decoder: RecordDecoder | None
    sent: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    still_invalid: Counter[str] = field(default_factory=Counter)
    _seen: set[Place] = field(default_factory=set)

    def chunks(self, letters: Iterable[DeadLetter | None]) -> Iterator[list[Requeued]]:
        """The records to send, a hundred at a time; counts all others."""
        wanted = (letter for letter in letters if letter is not None and self._is_wanted(letter))
        while chunk := list(islice(wanted, CHUNK_ROWS)):
            records = [Requeued(letter, self._value_of(letter)) for letter in chunk]
            yield self._valid_ones(records)

    @property
    def unmatched(self) -> list[tuple[int, int]]:
        """Repairs for which there was no letter."""
        seen = {(place.partition, place.offset) for place in self._seen}
        return sorted(set(self.repairs or ()) - seen)

    def _is_wanted(self, letter: DeadLetter) -> bool:
        why_not = self._why_not(letter)
        if why_not is not None:
            self.left[why_not] += 1
        return why_not is None

    def _why_not(self, letter: DeadLetter) -> str | None:
        if letter.record.topic != self.settings.features_topic:
            return "of another topic"
        if letter not in self.selection:
            return "not selected"
        if self.repairs is not None and (letter.record.partition, letter.record.offset) not in self.repairs:
            return "not repaired"
        if letter.record in self._seen:
            return "repeated"  # at-least-once delivery may write a letter twice
        self._seen.add(letter.record)
        return "truncated" if letter.truncated else None

    def _value_of(self, letter: DeadLetter) -> bytes | None:
        if self.repairs is None:
            return letter.value
        return self.repairs[letter.record.partition, letter.record.offset]

    def _valid_ones(self, records: list[Requeued]) -> list[Requeued]:
        if self.decoder is None:
            return records
        invalid = dict(self.decoder.decode([record.value for record in records]).invalid)
        if invalid:
            self.still_invalid.update(reason.reason for reason in invalid.values())
            self.left["still invalid"] += len(invalid)
        return [record for row, record in enumerate(records) if row not in invalid]


def requeue(plan: Plan, letters: Iterable[DeadLetter | None]) -> None:
    """Sends what the plan selects; each record to the partition it stood in, acknowledged by all in-sync replicas.

    Raises:
        BrokerError: says how many were sent before.
    """
    producer = _connect(plan.settings)
    try:
        for chunk in plan.chunks(letters):
            _send(producer, plan, chunk)
    finally:
        producer.close(timeout=1)


def rehearse(plan: Plan, letters: Iterable[DeadLetter | None]) -> None:
    """Counts what would be sent, and sends nothing."""
    for chunk in plan.chunks(letters):
        plan.sent.update(record.letter.reason for record in chunk)


def _connect(settings: Settings) -> Any:
    from kafka import KafkaProducer

    with broker_errors(settings, "connecting the producer"):
        return KafkaProducer(
            **client_options(settings),
            acks="all",
            enable_idempotence=True,
            compression_type=None if settings.compression == "none" else settings.compression,
            linger_ms=2,
            max_request_size=_LARGEST_REQUEST,
            request_timeout_ms=10_000,
            delivery_timeout_ms=30_000,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )


def _send(producer: Any, plan: Plan, chunk: list[Requeued]) -> None:
    from kafka.errors import KafkaError

    topic = plan.settings.features_topic
    on_the_way = []
    try:
        n_partitions = len(producer.partitions_for(topic))
        for record in chunk:
            future = producer.send(
                topic,
                value=record.value,
                key=record.letter.key,
                headers=headers_back(record.letter),
                partition=record.letter.record.partition % n_partitions,
            )
            on_the_way.append((record, future))
        for record, future in on_the_way:
            future.get(timeout=_ACKNOWLEDGED_S)
            plan.sent[record.letter.reason] += 1
    except KafkaError as error:
        raise BrokerError(
            plan.settings.bootstrap_servers,
            f"{plan.sent.total()} records were sent to {topic!r}, then: {describe_kafka_error(error)}",
        ) from error


def headers_back(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """The record's own headers, and where it comes from: the letter, and the place it had before."""
    own = [(name, content) for name, content in letter.headers if name not in {REQUEUED_FROM, REQUEUED_RECORD}]
    return [*own, (REQUEUED_FROM, str(letter.place).encode()), (REQUEUED_RECORD, str(letter.record).encode())]
