"""`ganwatch run`: puts the daemon together from its settings, runs it, and takes it apart again."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import FrameType

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics

from monitor import __version__
from monitor.champion import load_champion
from monitor.errors import ConfigError
from monitor.logs import configure_logs
from monitor.model.bundle import Bundle
from monitor.settings import RELOADABLE, Settings, load_settings
from monitor.stream.broker import inspect_cluster
from monitor.stream.pipeline import Judged, Pipeline
from monitor.stream.service import Health, Service
from monitor.stream.sink import Delivery, Sink
from monitor.stream.source import Source
from monitor.stream.transactional_sink import TransactionalSink
from monitor.stream.transactions import Transaction
from monitor.stream.watchdog import Watchdog
from monitor.stream.worker import OnTheWay, Worker
from monitor.telemetry.http import TelemetryServer
from monitor.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

UNHEALTHY_AFTER_S = 30.0


@dataclass(frozen=True)
class SettingsSource:
    """Where the settings came from, so that SIGHUP can read them again.

    Attributes:
        config: TOML file, if any.
        flags: settings given on the command line.
    """

    config: Path | None
    flags: Mapping[str, object] = field(default_factory=dict)

    def load(self) -> Settings:
        """Reads file and environment anew.

        Raises:
            ConfigError: with all problems.
        """
        return load_settings(self.config, flags=self.flags)


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
    needed = {settings.features_topic: "READ", settings.alerts_topic: "WRITE", settings.dead_letters_topic: "WRITE"}
    cluster = inspect_cluster(settings, tuple(needed), settings.features_topic, needed)
    pipeline = Pipeline(bundle, settings, cluster)
    sink = TransactionalSink(settings) if settings.delivery == "exactly_once" else Sink(settings)
    consumer = Source(settings, metrics)
    reasons = {settings.alerts_topic: "alerts", settings.dead_letters_topic: "dead_letters"}
    judges = ThreadPoolExecutor(settings.judge_threads, thread_name_prefix="ganwatch-judge")
    worker = Worker(
        judge=pipeline,
        executor=judges,
        send=_delivery(sink, consumer, pipeline),
        max_batches=settings.judge_threads + settings.queue_batches,
        on_waiting=lambda topic, waiting: service.set_waiting(reasons.get(topic, topic), waiting),
    )
    reloader = Reloader(source, pipeline, metrics)
    service = Service(settings, consumer, worker, metrics, health, before_turn=reloader.reload_if_asked)
    _show_model(metrics, pipeline)
    _on_signals(service.stop, reloader.ask)
    try:
        service.run()
    finally:
        judges.shutdown(wait=False, cancel_futures=True)
        sink.close(timeout_s=0.2)


def _delivery(sink: Sink, source: Source, pipeline: Pipeline) -> Callable[[Judged], OnTheWay]:
    """How the messages of a micro-batch are sent: the whole difference between at-least-once and exactly-once."""
    if isinstance(sink, TransactionalSink):
        return lambda judged: Transaction(sink, source, pipeline, judged)
    return lambda judged: Delivery(sink, judged)


def _on_signals(stop: Callable[[], None], reload: Callable[[], None]) -> None:
    def on_stop(number: int, _frame: FrameType | None) -> None:
        log.info("stopping", extra={"signal": signal.Signals(number).name})
        stop()

    signal.signal(signal.SIGTERM, on_stop)
    signal.signal(signal.SIGINT, on_stop)
    signal.signal(signal.SIGHUP, lambda _number, _frame: reload())


@dataclass
class Reloader:
    """SIGHUP: reads the settings again and takes over those that decide, never connections or the model.

    Attributes:
        source: where settings come from.
        pipeline: gets the new ones between two batches.
        metrics: shows them.
    """

    source: SettingsSource
    pipeline: Pipeline
    metrics: Metrics
    _asked: bool = False

    def ask(self) -> None:
        """Called by the signal handler; the loop does the work."""
        self._asked = True

    def reload_if_asked(self) -> None:
        """Takes over new settings; a bad file keeps the old ones and says so."""
        if not self._asked:
            return
        self._asked = False
        try:
            fresh = self.source.load()
        except ConfigError as error:
            self.metrics.reloads.labels("refused").inc()
            log.error("settings_refused", extra={"error": str(error)})
            return
        old = self.pipeline.settings
        changed = {name: getattr(fresh, name) for name in RELOADABLE if getattr(fresh, name) != getattr(old, name)}
        ignored = [
            name
            for name in Settings.model_fields
            if name not in RELOADABLE and getattr(fresh, name) != getattr(old, name)
        ]
        self.pipeline.settings = old.model_copy(update=changed)
        logging.getLogger().setLevel(self.pipeline.settings.log_level.upper())
        _show_model(self.metrics, self.pipeline)
        self.metrics.reloads.labels("done").inc()
        level = logging.WARNING if ignored else logging.INFO
        log.log(level, "settings_reloaded", extra={"changed": changed, "needs_restart": ignored})


def _show_model(metrics: Metrics, pipeline: Pipeline) -> None:
    bundle = pipeline.bundle
    metrics.model.info(
        {
            "name": bundle.manifest.model,
            "version": bundle.version,
            "detector": bundle.manifest.detector,
            "ganwatch": __version__,
        }
    )
    metrics.model_created.set(datetime.fromisoformat(bundle.manifest.created_at).timestamp())
    metrics.threshold.set(pipeline.threshold)
    metrics.target_alert_rate.set(pipeline.target_alert_rate)


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
