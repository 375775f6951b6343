"""`ganwatch simulate`: the simulated stream of card payments to a topic or a file, the truth to a file of its own."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from rich.console import Console

from monitor.errors import ConfigError
from monitor.settings import Settings
from training.payment_stream import (
    FEATURES_TOML,
    NORMAL,
    LabelledPayments,
    SimulationConfig,
    encode_records,
    simulate_day,
)
from training.publish import Publisher, stop_on_signals

FILE_SUFFIXES = (".csv", ".jsonl")


@dataclass(frozen=True)
class SimulateOptions:
    """What to simulate, and where it goes.

    Attributes:
        settings: connection, and the features topic; unused with `output`.
        simulation: the stream.
        records: how many; None publishes until interrupted.
        rate: records per second; None is as fast as possible.
        output: a `.csv` or `.jsonl` file to write instead of publishing.
        label_column: name of a column with the label (1 = fraud), added to `output` for `ganwatch evaluate`.
        labels: CSV file for the truth: sequence, payment_id, label, kind.
        schema: file for the stream's features.toml.
    """

    settings: Settings = field(default_factory=lambda: Settings.model_validate({}))
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    records: int | None = None
    rate: float | None = None
    output: Path | None = None
    label_column: str | None = None
    labels: Path | None = None
    schema: Path | None = None


@dataclass(frozen=True)
class SimulateSummary:
    """What was simulated.

    Attributes:
        records: written, or acknowledged by the broker.
        frauds: number of records by kind of fraud, among those drawn.
        seconds: how long it took.
    """

    records: int
    frauds: dict[str, int]
    seconds: float


def run_simulate(options: SimulateOptions, console: Console) -> SimulateSummary:
    """Simulates as the options say and prints one line about it.

    Raises:
        ConfigError: options that contradict each other, or a file that cannot be written.
        BrokerError: Kafka is unreachable, lacks the topic, or refused a record.
    """
    _check(options)
    start = time.monotonic()
    if options.schema is not None:
        _write(options.schema, FEATURES_TOML)
    truth = _Truth(options.labels)
    records = _publish(options, truth) if options.output is None else _write_file(options.output, options, truth)
    summary = SimulateSummary(records, dict(truth.frauds), time.monotonic() - start)
    where = options.output or f"topic {options.settings.features_topic!r} at {options.settings.bootstrap_servers}"
    console.print(
        f"{records} payments, {sum(summary.frauds.values())} of them fraudulent, to {where} in {summary.seconds:.1f} s"
    )
    return summary


def _check(options: SimulateOptions) -> None:
    problems = []
    if options.records is not None and options.records < 1:
        problems.append(f"--records: expected at least 1, got {options.records}")
    if options.rate is not None and not options.rate > 0:
        problems.append(f"--rate: expected records per second above 0, got {options.rate:g}")
    if options.output is not None and options.output.suffix not in FILE_SUFFIXES:
        problems.append(f"--output: expected a name that ends in {' or '.join(FILE_SUFFIXES)}, got {options.output}")
    if options.output is not None and options.records is None:
        problems.append("--output: a file needs --records, the number of rows")
    if options.output is None and options.label_column is not None:
        problems.append("--label-column: only a file can carry the label; use --labels FILE for a topic")
    if problems:
        raise ConfigError("simulate", problems)


class _Truth:
    """Counts the frauds that were drawn and writes the truth beside the stream, in the order of the stream."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._sequence = 0
        self.frauds: Counter[str] = Counter()
        if path is not None:
            _write(path, "sequence,payment_id,label,kind\n")

    def note(self, payments: LabelledPayments) -> None:
        self.frauds.update(kind for kind in payments.kind.tolist() if kind != NORMAL)
        if self._path is not None:
            rows = zip(payments.ids, payments.label.tolist(), payments.kind.tolist(), strict=True)
            with self._path.open("a", encoding="utf-8") as file:
                for sequence, row in enumerate(rows, start=self._sequence):
                    file.write(f"{sequence},{','.join(map(str, row))}\n")
        self._sequence += len(payments.kind)


def _write_file(output: Path, options: SimulateOptions, truth: _Truth) -> int:
    payments = LabelledPayments.concat(list(_days(options, truth)))
    table = payments.table
    if options.label_column is not None:
        table = table.with_columns(pl.Series(options.label_column, payments.label))
    text = (
        table.write_csv()
        if output.suffix == ".csv"
        else "".join(f"{line.decode()}\n" for line in encode_records(table))
    )
    _write(output, text)
    return len(table)


def _publish(options: SimulateOptions, truth: _Truth) -> int:
    with closing(Publisher(options.settings)) as publisher, stop_on_signals() as stop:
        records = itertools.chain.from_iterable(keyed_records(day) for day in _days(options, truth))
        return publisher.publish(records, rate=options.rate, stop=stop)


def _days(options: SimulateOptions, truth: _Truth) -> Iterator[LabelledPayments]:
    """The days of the stream, the last one cut to the wanted number of records; notes the truth of each."""
    left = options.records
    for day in itertools.count():
        if left == 0:
            return
        payments = simulate_day(options.simulation, day)[:left]
        truth.note(payments)
        yield payments
        left = None if left is None else left - len(payments.table)


def keyed_records(payments: LabelledPayments) -> Iterator[tuple[bytes, bytes]]:
    """Key (the card) and JSON value of each payment, in order."""
    keys = payments.table.get_column("card_id").to_list()
    return zip((key.encode() for key in keys), encode_records(payments.table), strict=True)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(path), f"cannot be written: {error.strerror}") from error
