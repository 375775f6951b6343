"""`ganwatch demo`: trains on honest records, starts the real daemon on an embedded broker, streams, and counts what it found.

The broker and the stream are simulated; model, daemon, alerts and metrics are the real ones. Read from top to bottom.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from monitor.errors import ConfigError, GanwatchError
from monitor.model.registry import Registry
from monitor.model.schema import Schema
from monitor.native_output import native_stderr_held
from monitor.settings import Settings, load_settings
from training.demo_alerts import AlertReader
from training.demo_daemon import Daemon
from training.demo_material import Material, labelled_file, public_dataset, simulated_payments, write_material
from training.demo_scrape import Scrape, parse_scrape
from training.demo_summary import DemoSummary, compare, describe_summary, latencies
from training.demo_view import Moment, View, view_for
from training.embedded_broker import API_VERSION, EmbeddedBroker
from training.history import read_history
from training.payment_stream import encode_records
from training.progress import TrainingProgress
from training.publish import Publisher

TOPICS = ("features", "alerts", "dead-letters")
_MOST_TRAIN_ROWS = 1_000_000
_READY_TIMEOUT_S = 60.0
_SILENCE_S = 20.0  # without progress for so long, what is missing counts as lost
_POLL_S = 0.25
_RATE_WINDOW_S = 3.0


@dataclass(frozen=True)
class DemoOptions:
    """What to show.

    Attributes:
        workdir: where data, model, settings, alerts and metrics go.
        records: how many to stream at most.
        rate: records per second; None is as fast as possible.
        steps: training steps.
        anomaly_share: of the simulated stream.
        target_alert_rate: expected share of normal records that are flagged.
        seed: of everything random.
        data: a labelled file to use instead of the simulated payments.
        label: its column that tells anomalies.
        dataset: a public set to use instead.
    """

    workdir: Path = Path("ganwatch-demo")
    records: int = 30_000
    rate: float | None = 1500.0
    steps: int = 5000
    anomaly_share: float = 0.02
    target_alert_rate: float = 0.002
    seed: int = 0
    data: Path | None = None
    label: str | None = None
    dataset: str | None = None


@dataclass(frozen=True)
class Watched:
    """What streaming left behind.

    Attributes:
        positions: row of the stream by partition and offset, of every acknowledged record.
        flagged: partition and offset of the record of every alert read.
        scrape: the last one.
        seconds: from the first record published to the last one done.
        interrupted: whether the user ended it.
    """

    positions: dict[tuple[int, int], int]
    flagged: list[tuple[int, int]]
    scrape: Scrape
    seconds: float
    interrupted: bool


def run_demo(options: DemoOptions, console: Console) -> DemoSummary:
    """Runs the whole demo and prints what came out; `exit_code` of the summary is that of the command.

    Raises:
        ConfigError: options that contradict each other, unusable data, or a work folder that cannot be written.
        BrokerError: the embedded broker fails.
        DaemonFailed: the daemon ends or does not become ready.
        KeyboardInterrupt: SIGINT or SIGTERM before the stream began; later ones end the stream and give a summary.
    """
    _check(options)
    started = time.monotonic()
    folder = options.workdir
    with _terminate_as_interrupt(), EmbeddedBroker(TOPICS) as broker:
        console.print(
            f"preparing {_describe_source(options)} in {folder}", soft_wrap=True, markup=False, highlight=False
        )
        material = _prepare(options)
        schema = write_material(material, folder)
        settings = _write_settings(options, folder, broker.bootstrap_servers)
        train_s = _train(options, schema, settings, console)
        with Daemon(folder) as daemon, AlertReader(settings, folder / "alerts.jsonl") as reader:
            start_s = daemon.wait_until_ready(_READY_TIMEOUT_S)
            console.print(
                f"daemon ready after {start_s:.1f} s; streaming {len(material.kind):,} records", highlight=False
            )
            with view_for(console) as view:
                watched = _watch(options, material, schema, settings, daemon, reader, view)
    summary = _summarise(options, material, watched, train_s, start_s, time.monotonic() - started)
    (folder / "summary.json").write_text(json.dumps(summary.as_dict(), indent=2) + "\n", encoding="utf-8")
    for line in describe_summary(summary):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    return summary


def _check(options: DemoOptions) -> None:
    problems = []
    if options.data is not None and options.dataset is not None:
        problems.append("--data and --dataset exclude each other")
    if (options.data is None) != (options.label is None):
        problems.append("--data FILE and --label COLUMN belong together")
    if options.records < 1:
        problems.append(f"--records: expected at least 1, got {options.records}")
    if options.rate is not None and not options.rate > 0:
        problems.append(f"--rate: expected records per second above 0, got {options.rate:g}")
    if problems:
        raise ConfigError("demo", problems)


def _describe_source(options: DemoOptions) -> str:
    return str(options.data or options.dataset or "simulated card payments")


def _prepare(options: DemoOptions) -> Material:
    if options.data is not None and options.label is not None:
        return labelled_file(options.data, options.label, options.records, seed=options.seed)
    if options.dataset is not None:
        return public_dataset(options.dataset, options.records, seed=options.seed)
    return simulated_payments(options.records, anomaly_share=options.anomaly_share, seed=options.seed)


def _write_settings(options: DemoOptions, folder: Path, bootstrap_servers: str) -> Settings:
    """Writes ganwatch.toml for the daemon, whose working directory is `folder`, and returns the same settings."""
    lines = (
        "# Written by `ganwatch demo`. Its broker is gone when the demo has ended: put yours in bootstrap_servers and",
        "# remove kafka_api_version to run this model on a topic of your own.",
        f'bootstrap_servers = "{bootstrap_servers}"',
        f'kafka_api_version = "{API_VERSION}"',
        'schema_path = "features.toml"',
        'registry = "registry"',
        f"target_alert_rate = {options.target_alert_rate}",
        "http_port = 0",
        'log_format = "json"',
    )
    path = folder / "ganwatch.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_settings(path, env={})


def _train(options: DemoOptions, schema: Schema, settings: Settings, console: Console) -> float:
    """Trains the default detector into the registry of the work folder; returns the seconds, TensorFlow's import included."""
    started = time.monotonic()
    with console.status("loading TensorFlow"), native_stderr_held():
        from training.train import TrainingPlan, find_devices, train_model

        find_devices(threads=0)
    folder = options.workdir
    history = read_history(str(folder / "train.jsonl"), schema, settings, max_rows=_MOST_TRAIN_ROWS)
    plan = TrainingPlan(options={"steps": options.steps}, seed=options.seed)
    with TrainingProgress(console) as progress:
        trained = train_model(history, schema, Registry(str(folder / "registry")), plan, on_progress=progress.update)
    seconds = time.monotonic() - started
    data = trained.manifest.data
    console.print(
        f"trained {trained.manifest.model} on {data['train_rows']:,} rows in {seconds:.0f} s, calibrated on "
        f"{data['calibration_rows']:,} others",
        highlight=False,
    )
    return seconds


@dataclass
class _Stream:
    """Publishes the material from a thread of its own.

    Attributes:
        positions: row of the stream by partition and offset, of every acknowledged record.
        error: what ended it, if anything did.
    """

    settings: Settings
    material: Material
    schema: Schema
    rate: float | None
    positions: dict[tuple[int, int], int] = field(default_factory=dict)
    error: GanwatchError | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._publish, name="demo-publisher", daemon=True)

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Stops publishing and waits until what was sent is acknowledged."""
        self.stop.set()
        self._thread.join()

    def _publish(self) -> None:
        table, key = self.material.stream, self.schema.key
        named = table.get_column(key).to_list() if key in table.columns else [None] * len(table)
        keys = [None if name is None else str(name).encode() for name in named]
        try:
            with closing(Publisher(self.settings)) as publisher:
                records = zip(keys, encode_records(table), strict=True)
                publisher.publish(records, rate=self.rate, stop=self.stop, on_acknowledged=self._note)
        except GanwatchError as error:
            self.error = error

    def _note(self, number: int, partition: int, offset: int) -> None:
        self.positions[partition, offset] = number


def _watch(
    options: DemoOptions,
    material: Material,
    schema: Schema,
    settings: Settings,
    daemon: Daemon,
    reader: AlertReader,
    view: View,
) -> Watched:
    """Streams and looks on until every record has come out of the daemon, nothing moves any more, or the user ends it."""
    stream = _Stream(settings, material, schema, options.rate)
    started = moved_at = time.monotonic()
    readings: deque[tuple[float, int]] = deque([(started, 0)])
    interrupted = False
    stream.start()
    try:
        while True:
            reader.poll(_POLL_S)
            text = daemon.scrape()
            scrape, now = parse_scrape(text), time.monotonic()
            if scrape.done > readings[-1][1]:
                moved_at = now
            view.show(
                Moment(
                    now - started,
                    len(stream.positions),
                    len(material.kind),
                    _rate(readings, now, scrape.done),
                    scrape,
                    reader.alerts,
                )
            )
            if (not stream.running and _is_complete(stream, scrape, reader)) or now > moved_at + _SILENCE_S:
                break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        stream.end()
    if stream.error is not None:
        raise stream.error
    text = daemon.scrape()
    (options.workdir / "metrics.prom").write_text(text, encoding="utf-8")
    flagged = [(alert["record"]["partition"], alert["record"]["offset"]) for alert in reader.alerts]
    return Watched(stream.positions, flagged, parse_scrape(text), moved_at - started, interrupted)


def _is_complete(stream: _Stream, scrape: Scrape, reader: AlertReader) -> bool:
    return scrape.done >= len(stream.positions) and len(reader.alerts) >= scrape.flagged


def _rate(readings: deque[tuple[float, int]], now: float, done: int) -> float:
    """Records per second over the last few seconds; notes this reading."""
    readings.append((now, done))
    while len(readings) > 2 and readings[0][0] < now - _RATE_WINDOW_S:
        readings.popleft()
    (then, before) = readings[0]
    return (done - before) / (now - then) if now > then else 0.0


def _summarise(
    options: DemoOptions, material: Material, watched: Watched, train_s: float, start_s: float, total_s: float
) -> DemoSummary:
    found = compare(material, watched.positions, watched.flagged)
    p50, p99 = latencies(watched.scrape)
    published = len(watched.positions)
    return DemoSummary(
        source=material.name,
        records=published,
        scored=watched.scrape.scored,
        dead_letters=watched.scrape.dead_lettered,
        # After Ctrl-C the daemon is not waited for, so what is missing is unfinished, not lost.
        lost=0 if watched.interrupted else max(0, published - watched.scrape.done),
        alerts=found.alerts,
        duplicates=found.duplicates,
        anomalies=found.anomalies,
        precision=found.precision,
        recall=found.recall,
        kinds=found.kinds,
        records_per_s=watched.scrape.done / watched.seconds if watched.seconds > 0 else 0.0,
        p50_latency_s=p50,
        p99_latency_s=p99,
        train_s=train_s,
        start_s=start_s,
        total_s=total_s,
        workdir=str(options.workdir),
        held_to_goals=options.data is None and options.dataset is None,
        interrupted=watched.interrupted,
    )


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that the daemon never outlives the demo."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
