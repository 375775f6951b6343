"""`ganwatch run`: puts the daemon together from its settings, runs it, and takes it apart again."""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import FrameType

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics

from monitor.archive.recorder import Recorder
from monitor.archive.writer import ArchiveOptions
from monitor.champion import load_champion, open_registry
from monitor.encodings.waiting import Waiting
from monitor.events import ModelEvent
from monitor.logs import configure_logs
from monitor.model.bundle import Bundle
from monitor.model.store import open_store
from monitor.reloader import Reloader, SettingsSource
from monitor.settings import Settings
from monitor.stream.admission import Admission
from monitor.stream.announcer import Announcer
from monitor.stream.broker import inspect_cluster
from monitor.stream.invalid_window import InvalidWindow
from monitor.stream.judged import Judged
from monitor.stream.pipeline import Pipeline
from monitor.stream.service import Health, Service
from monitor.stream.sink import Delivery, Sink
from monitor.stream.source import Source
from monitor.stream.transactional_sink import TransactionalSink
from monitor.stream.transactions import Transaction
from monitor.stream.watchdog import Watchdog
from monitor.stream.worker import OnTheWay, Worker
from monitor.succession.drift_report import DriftReport
from monitor.succession.outcomes import Outcomes
from monitor.succession.succession import Succession
from monitor.succession.watch import RegistryWatch
from monitor.telemetry.http import TelemetryServer
from monitor.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

UNHEALTHY_AFTER_S = 30.0


def run_daemon(source: SettingsSource) -> None:
    """Runs until SIGTERM or SIGINT.

    Raises:
        GanwatchError: see `monitor.errors`; its type says what happened and gives the exit code.
    """
    settings = source.load()
    configure_logs(settings.log_level, settings.log_format)
    bundle = load_champion(settings)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    metrics = Metrics(registry)
    health = Health()
    server = TelemetryServer(
        settings.http_host,
        settings.http_port,
        registry,
        healthy=lambda: _unhealthy(health),
        ready=lambda: _not_ready(health),
    )
    server.start()
    Watchdog(lambda: health.turned_at, _longest_silence_s(settings)).start()
    log.info("http_listening", extra={"address": server.address, "paths": "/metrics /healthz /readyz"})
    try:
        _serve(source, settings, bundle, metrics, health)
    finally:
        server.close()


def _serve(source: SettingsSource, settings: Settings, bundle: Bundle, metrics: Metrics, health: Health) -> None:
    """Connects to Kafka and turns the loop until it ends."""
    reasons = {settings.alerts_topic: "alerts", settings.dead_letters_topic: "dead_letters"}
    cluster = inspect_cluster(settings, tuple(settings.topic_rights), settings.features_topic, settings.topic_rights)
    with ExitStack() as closing:
        sink = TransactionalSink(settings) if settings.delivery == "exactly_once" else Sink(settings)
        closing.callback(sink.close, timeout_s=0.2)
        outcomes = Outcomes(metrics, _announcing(settings, closing), bundle.manifest.model, settings.group_id)
        recorder = _recorder(settings, bundle, metrics, closing)
        abort = threading.Event()
        waiting = Waiting(abort, lambda reason, waits: service.set_waiting(reason, waits))  # noqa: PLW0108 - made last
        sampler = recorder.writer if recorder else None
        pipeline = Pipeline(bundle, settings, cluster, sampler=sampler, patience=waiting)
        watch = _watch(settings, bundle, outcomes, closing)
        succession = Succession(pipeline, watch, outcomes, settings.guard_records)
        consumer = Source(settings, metrics)
        judges = ThreadPoolExecutor(settings.judge_threads, thread_name_prefix="ganwatch-judge")
        closing.callback(judges.shutdown, wait=False, cancel_futures=True)
        closing.callback(abort.set)
        drift_report = DriftReport(metrics, outcomes)
        observers = [succession.observe, drift_report.observe, *([recorder.observe] if recorder else [])]
        worker = Worker(
            judge=pipeline,
            admit=Admission(InvalidWindow(settings.invalid_window_rows), observers),
            executor=judges,
            send=_delivery(sink, consumer),
            max_batches=settings.judge_threads + settings.queue_batches,
            on_waiting=lambda topic, waiting: service.set_waiting(reasons.get(topic, topic), waiting),
            abort=abort,
        )
        reloader = Reloader(source, settings, succession.decide_by, metrics)

        def between_batches() -> None:
            reloader.reload_if_asked()
            succession.turn()
            worker.judge = succession.pipeline
            service.limit_rows(succession.most_rows)

        service = Service(settings, consumer, worker, metrics, health, between_batches)
        outcomes.in_service(pipeline)
        _on_signals(service.stop, reloader.ask)
        _spare_the_collector()
        service.run()


def _spare_the_collector() -> None:
    """Keeps the cyclic collector off what was loaded so far, most of it modules: a walk through it stops every thread for long."""
    gc.collect()
    gc.freeze()


def _announcing(settings: Settings, closing: ExitStack) -> Callable[[ModelEvent], None]:
    if settings.model_events_topic is None:
        return lambda _event: None
    announcer = Announcer(settings, settings.model_events_topic)
    closing.callback(announcer.close)
    return announcer.announce


def _recorder(settings: Settings, bundle: Bundle, metrics: Metrics, closing: ExitStack) -> Recorder | None:
    if settings.archive is None:
        return None
    options = ArchiveOptions(
        stratum_rows=settings.archive_stratum_rows,
        stratum_flagged=settings.archive_stratum_flagged,
        stratum_records=settings.archive_stratum_records,
        stratum_s=settings.archive_stratum_s,
        strata=settings.archive_strata,
        retention_s=settings.archive_retention_s,
    )
    store = open_store(settings.archive, "archive")
    recorder = Recorder(store, bundle.manifest.model, bundle.schema, options, metrics)
    closing.callback(recorder.close)
    return recorder


def _watch(settings: Settings, bundle: Bundle, outcomes: Outcomes, closing: ExitStack) -> RegistryWatch | None:
    if settings.model_version is not None:
        return None
    watch = RegistryWatch(open_registry(settings), bundle.schema, bundle, settings.registry_poll_s, outcomes)
    watch.start()
    closing.callback(watch.stop)
    return watch


def _delivery(sink: Sink, source: Source) -> Callable[[Judged], OnTheWay]:
    """How the messages of a micro-batch are sent: the whole difference between at-least-once and exactly-once."""
    if isinstance(sink, TransactionalSink):
        return lambda judged: Transaction(sink, source, judged)
    return lambda judged: Delivery(sink, judged)


def _on_signals(stop: Callable[[], None], reload: Callable[[], None]) -> None:
    def on_stop(number: int, _frame: FrameType | None) -> None:
        log.info("stopping", extra={"signal": signal.Signals(number).name})
        stop()

    signal.signal(signal.SIGTERM, on_stop)
    signal.signal(signal.SIGINT, on_stop)
    signal.signal(signal.SIGHUP, lambda _number, _frame: reload())


def _longest_silence_s(settings: Settings) -> float:
    """At its end the loop does not turn any more, but waits for what is in flight."""
    return max(settings.stuck_exit_s, 2 * settings.shutdown_timeout_s)


def _unhealthy(health: Health) -> str | None:
    silent_s = time.monotonic() - health.turned_at
    return f"the loop has not turned for {silent_s:.0f} s" if silent_s > UNHEALTHY_AFTER_S else None


def _not_ready(health: Health) -> str | None:
    if not health.joined:
        return "no partitions assigned yet"
    return f"waiting for {', '.join(sorted(health.waiting))}" if health.waiting else None
