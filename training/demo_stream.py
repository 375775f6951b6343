"""Streams a demo's records to the daemon and looks on until all of them have come out of it."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import closing
from dataclasses import dataclass

from monitor.errors import GanwatchError
from monitor.model.schema import Schema
from monitor.settings import Settings
from training.demo_alerts import AlertReader
from training.demo_daemon import Daemon
from training.demo_material import Material
from training.demo_scrape import Scrape, parse_scrape
from training.demo_view import Moment, View
from training.payment_stream import encode_records
from training.publish import Publisher

_SILENCE_S = 20.0  # without progress for so long, what is missing counts as lost
_POLL_S = 0.25
_RATE_WINDOW_S = 3.0


@dataclass(frozen=True)
class Watched:
    """What streaming left behind.

    Attributes:
        positions: row of the stream by partition and offset, of every acknowledged record.
        flagged: partition and offset of the record of every alert read.
        metrics: text of the last scrape.
        seconds: from the start of publishing to the last record that came out.
        interrupted: whether the user ended it.
    """

    positions: dict[tuple[int, int], int]
    flagged: list[tuple[int, int]]
    metrics: str
    seconds: float
    interrupted: bool


class RecordStream:
    """Publishes the rows of a material, in order, from a thread of its own.

    Attributes:
        n_records: how many there are.
        positions: row by partition and offset, of every acknowledged record.
        error: what ended it, if anything did.
    """

    def __init__(self, material: Material, schema: Schema, settings: Settings, rate: float | None) -> None:
        """Takes rows, the schema that names the key, the connection, and the records per second."""
        self.n_records = material.stream.height
        self.positions: dict[tuple[int, int], int] = {}
        self.error: GanwatchError | None = None
        self._table = material.stream
        self._key = schema.key
        self._settings = settings
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._publish, name="demo-publisher", daemon=True)

    @property
    def running(self) -> bool:
        """Whether there are records yet to be acknowledged."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begins to publish."""
        self._thread.start()

    def end(self) -> None:
        """Stops publishing and waits until what was sent is acknowledged."""
        self._stop.set()
        self._thread.join()

    def _publish(self) -> None:
        try:
            with closing(Publisher(self._settings)) as publisher:
                records = zip(self._keys(), encode_records(self._table), strict=True)
                publisher.publish(records, rate=self._rate, stop=self._stop, on_acknowledged=self._note)
        except GanwatchError as error:
            self.error = error

    def _keys(self) -> list[bytes | None]:
        if self._key is None or self._key not in self._table.columns:
            return [None] * self.n_records
        return [None if key is None else str(key).encode() for key in self._table.get_column(self._key)]

    def _note(self, number: int, partition: int, offset: int) -> None:
        self.positions[partition, offset] = number


def watch(stream: RecordStream, daemon: Daemon, reader: AlertReader, view: View) -> Watched:
    """Streams and looks on until every record has come out, nothing moves any more, or the user ends it.

    Raises:
        GanwatchError: the daemon or the broker failed.
    """
    started = moved_at = time.monotonic()
    readings: deque[tuple[float, int]] = deque([(started, 0)])
    interrupted = False
    stream.start()
    try:
        while True:
            reader.poll(_POLL_S)
            scrape, now = parse_scrape(daemon.scrape()), time.monotonic()
            if scrape.done > readings[-1][1]:
                moved_at = now
            rate = _rate(readings, now, scrape.done)
            view.show(Moment(now - started, len(stream.positions), stream.n_records, rate, scrape, reader.alerts))
            if not stream.running and (_is_complete(stream, scrape, reader) or now > moved_at + _SILENCE_S):
                break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        stream.end()
    if stream.error is not None:
        raise stream.error
    flagged = [(alert["record"]["partition"], alert["record"]["offset"]) for alert in reader.alerts]
    return Watched(stream.positions, flagged, daemon.scrape(), moved_at - started, interrupted)


def _is_complete(stream: RecordStream, scrape: Scrape, reader: AlertReader) -> bool:
    return scrape.done >= len(stream.positions) and len(reader.alerts) >= scrape.flagged


def _rate(readings: deque[tuple[float, int]], now: float, done: int) -> float:
    """Records per second over the last few seconds; notes this reading."""
    readings.append((now, done))
    while len(readings) > 2 and readings[0][0] < now - _RATE_WINDOW_S:
        readings.popleft()
    then, before = readings[0]
    return (done - before) / (now - then) if now > then else 0.0
