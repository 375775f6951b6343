"""Every metric of the daemon, in one class. Updated once a batch, never once a record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from monitor.errors import InvalidRecord

STAGES = ("poll", "decode", "transform", "score", "explain", "beside", "publish", "commit")
SWAP_OUTCOMES = ("done", "refused", "rolled_back")
WAITING_REASONS = ("broker", "alerts", "dead_letters", "schema_registry")
SCORE_BUCKETS = (5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.999)
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
BATCH_SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
BATCH_ROWS_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384)


class BatchHistogram(Collector):
    """A classic histogram that takes a whole batch of values at once.

    `prometheus_client.Histogram.observe` costs 2-3 µs a value; this costs about that much a batch.
    """

    def __init__(self, name: str, documentation: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = np.asarray(buckets, dtype=np.float64)
        self._counts = np.zeros(len(buckets) + 1, dtype=np.int64)
        self._sum = 0.0
        registry.register(self)

    def observe_many(self, values: NDArray[np.floating]) -> None:
        """Adds values: any float array, finite."""
        if len(values) == 0:
            return
        places = np.searchsorted(self._bounds, values, side="left")
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum += float(np.sum(values, dtype=np.float64))

    def collect(self) -> Iterable[Metric]:
        """The cumulative buckets, as Prometheus wants them."""
        cumulative = np.cumsum(self._counts)
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        buckets = [(bound, float(count)) for bound, count in zip(bounds, cumulative, strict=True)]
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum)


class Metrics:
    """The daemon's metrics on one Prometheus registry.

    The records add up: once the daemon is idle, consumed = scored + dead_lettered, counted when they are acknowledged.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        counter = self._counter
        gauge = self._gauge
        self.consumed = counter("records_consumed", "Records read from the features topic")
        self.scored = counter("records_scored", "Records scored, their alerts (if any) acknowledged")
        self.flagged = counter("records_flagged", "Records whose alert was acknowledged")
        self.dead_lettered = counter("records_dead_lettered", "Records acknowledged as dead letters", ("reason",))
        for reason in InvalidRecord.REASONS:
            self.dead_lettered.labels(reason)
        self.imputed = counter("imputed_values", "Missing values replaced by the typical one", ("feature",))
        self.score = BatchHistogram("ganwatch_score", "Scores, 0 to 100; 50 is p = 1e-3", SCORE_BUCKETS, registry)
        self.batch_rows = Histogram(
            "ganwatch_batch_rows", "Records in a micro-batch", buckets=BATCH_ROWS_BUCKETS, registry=registry
        )
        self.batch_seconds = Histogram(
            "ganwatch_batch_seconds",
            "From closing a micro-batch to its acknowledgement",
            buckets=BATCH_SECONDS_BUCKETS,
            registry=registry,
        )
        self.stage_seconds = counter("stage_seconds", "Wall time spent in a stage of the pipeline", ("stage",))
        for stage in STAGES:
            self.stage_seconds.labels(stage)
        self.latency = BatchHistogram(
            "ganwatch_end_to_end_latency_seconds",
            "From a record's Kafka timestamp to its acknowledgement",
            LATENCY_BUCKETS,
            registry,
        )
        self.lag_records = gauge("lag_records", "Records not yet acknowledged", ("partition",))
        self.lag_seconds = gauge(
            "lag_seconds", "Age of the oldest record not yet acknowledged; 0 when there is none", ("partition",)
        )
        self.last_commit = gauge(
            "last_commit_timestamp_seconds", "When offsets were last committed; 0 before the first time"
        )
        self.skipped = counter(
            "records_skipped", "Records deleted before they were read, or in a batch that cannot be read"
        )
        self.rebalances = counter("rebalances", "Changes of the partition assignment")
        self.waiting = gauge("waiting", "1 while the service waits with back-off, and for what", ("reason",))
        for reason in WAITING_REASONS:
            self.waiting.labels(reason)
        self.ready = gauge("ready", "1 while /readyz answers 200")
        self.target_alert_rate = gauge("target_alert_rate_ratio", "Expected share of normal records that are flagged")
        self.threshold = gauge("threshold", "Least score that is flagged")
        self.model = Info("ganwatch_model", "The model in service", registry=registry)
        self.model_created = gauge("model_created_timestamp_seconds", "When the model in service was trained")
        self.swaps = counter(
            "model_swaps", "Changes of the model in service, and promotions that were refused", ("outcome",)
        )
        for outcome in SWAP_OUTCOMES:
            self.swaps.labels(outcome)
        self.beside_records = counter("beside_records", "Records that a second model was asked about, too")
        self.beside_flagged = counter("beside_flagged", "Those of them that the second model would have flagged")
        self.drifts = counter("drifts", "Changes of the records that were found", ("kind",))
        for kind in ("abrupt", "gradual"):
            self.drifts.labels(kind)
        self.score_drift = gauge("score_drift", "How near the scores are to an alarm of drift; 1 is one")
        self.input_drift = gauge(
            "input_drift", "Population stability index against training, without what chance explains", ("feature",)
        )
        self.flag_rate_ratio = gauge(
            "flag_rate_ratio", "Share of flagged among the last records, in units of the target"
        )
        self.registry_up = gauge("registry_up", "1 while the registry of models answers")
        self.archived = counter("archived_rows", "Sampled rows of closed archive strata", ("outcome",))
        for outcome in ("stored", "failed"):
            self.archived.labels(outcome)
        self.reloads = counter("settings_reloads", "Settings read again on SIGHUP", ("outcome",))
        for outcome in ("done", "refused"):
            self.reloads.labels(outcome)

    def forget_partition(self, partition: int) -> None:
        """Drops the series of a partition that another replica reports from now on."""
        for metric in (self.lag_records, self.lag_seconds):
            with suppress(KeyError):
                metric.remove(str(partition))

    def _counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"ganwatch_{name}", documentation, labels, registry=self.registry)

    def _gauge(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"ganwatch_{name}", documentation, labels, registry=self.registry)
