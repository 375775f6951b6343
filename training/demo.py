"""`ganwatch demo`: trains on honest records, starts the real daemon on an embedded broker, streams, and counts what it found.

The broker and the stream are simulated; model, daemon, alerts and metrics are the real ones. Read from top to bottom.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from monitor.errors import ConfigError
from monitor.model.registry import Registry
from monitor.model.schema import Schema
from monitor.native_output import native_stderr_held
from monitor.settings import Settings, load_settings
from training.demo_alerts import AlertReader
from training.demo_daemon import Daemon
from training.demo_material import Material, labelled_file, public_dataset, simulated_payments, write_material
from training.demo_scrape import parse_scrape, quantile
from training.demo_stream import RecordStream, Watched, watch
from training.demo_summary import DemoSummary, compare, describe_summary
from training.demo_view import view_for
from training.embedded_broker import API_VERSION, EmbeddedBroker
from training.history import read_history
from training.progress import TrainingProgress

TOPICS = ("features", "alerts", "dead-letters")
_MOST_TRAIN_ROWS = 1_000_000
_READY_TIMEOUT_S = 60.0


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
    with terminate_as_interrupt(), EmbeddedBroker(TOPICS) as broker:
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
                watched = watch(RecordStream(material, schema, settings, options.rate), daemon, reader, view)
    summary = _summarise(options, material, watched, train_s, start_s, time.monotonic() - started)
    (folder / "metrics.prom").write_text(watched.metrics, encoding="utf-8")
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
        "fetch_max_wait_s = 0.05  # the embedded broker holds each fetch for all of it",
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
        from training.report.page import report_training
        from training.train import TrainingPlan, find_devices, train_model

        find_devices()
    folder = options.workdir
    history = read_history(str(folder / "train.jsonl"), schema, settings, max_rows=_MOST_TRAIN_ROWS)
    plan = TrainingPlan(options={"steps": options.steps}, seed=options.seed)
    registry = Registry(str(folder / "registry"))
    with TrainingProgress(console) as progress:
        trained = train_model(
            history,
            schema,
            registry,
            plan,
            on_progress=progress.update,
            report=lambda bundle, split: report_training(registry, bundle, history, split, settings),
        )
    seconds = time.monotonic() - started
    data = trained.manifest.data
    console.print(
        f"trained {trained.manifest.model} on {data['train_rows']:,} rows in {seconds:.0f} s, calibrated on "
        f"{data['calibration_rows']:,} others",
        highlight=False,
    )
    return seconds


def _summarise(
    options: DemoOptions, material: Material, watched: Watched, train_s: float, start_s: float, total_s: float
) -> DemoSummary:
    found = compare(material, watched.positions, watched.flagged)
    scrape = parse_scrape(watched.metrics)
    published = len(watched.positions)
    return DemoSummary(
        source=material.name,
        records=published,
        scored=scrape.scored,
        dead_letters=scrape.dead_lettered,
        # After Ctrl-C the daemon is not waited for, so what is missing is unfinished, not lost.
        lost=0 if watched.interrupted else max(0, published - scrape.done),
        alerts=found.alerts,
        duplicates=found.duplicates,
        anomalies=found.anomalies,
        precision=found.precision,
        recall=found.recall,
        kinds=found.kinds,
        records_per_s=scrape.done / watched.seconds if watched.seconds > 0 else 0.0,
        p50_latency_s=quantile(scrape.latency, 0.5),
        p99_latency_s=quantile(scrape.latency, 0.99),
        train_s=train_s,
        start_s=start_s,
        total_s=total_s,
        workdir=str(options.workdir),
        held_to_goals=options.data is None and options.dataset is None,
        interrupted=watched.interrupted,
    )


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
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
