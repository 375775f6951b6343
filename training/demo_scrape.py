"""Reads what the daemon says on /metrics: the few numbers a demo shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

# Upper bound and number of values up to it, ascending; the last bound is infinity.
Buckets = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Scrape:
    """One reading of /metrics.

    Attributes:
        scored: records whose result was acknowledged.
        flagged: records whose alert was acknowledged.
        dead_lettered: records that could not be scored.
        skipped: records that the broker had dropped before they were read.
        lag: records published and not yet acknowledged, as last measured.
        threshold: least score that is flagged.
        score: cumulative histogram of scores.
        latency: cumulative histogram of seconds from a record's Kafka timestamp to its acknowledgement.
    """

    scored: int
    flagged: int
    dead_lettered: int
    skipped: int
    lag: int
    threshold: float
    score: Buckets
    latency: Buckets

    @property
    def done(self) -> int:
        """Records that were scored or dead-lettered."""
        return self.scored + self.dead_lettered


def parse_scrape(text: str) -> Scrape:
    """Reads Prometheus' text format; a metric that is absent counts as 0."""
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def total(name: str) -> float:
        return sum(value for _, value in samples.get(f"ganwatch_{name}", []))

    def buckets(name: str) -> Buckets:
        found = samples.get(f"ganwatch_{name}_bucket", [])
        return tuple(sorted((float(labels["le"]), value) for labels, value in found))

    return Scrape(
        scored=int(total("records_scored_total")),
        flagged=int(total("records_flagged_total")),
        dead_lettered=int(total("records_dead_lettered_total")),
        skipped=int(total("records_skipped_total")),
        lag=int(total("lag_records")),
        threshold=total("threshold"),
        score=buckets("score"),
        latency=buckets("end_to_end_latency_seconds"),
    )


def quantile(buckets: Sequence[tuple[float, float]], q: float) -> float | None:
    """The q-quantile of a cumulative histogram, interpolated within its bucket as Prometheus does; None when empty."""
    if not buckets or buckets[-1][1] == 0:
        return None
    rank = q * buckets[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank and count > below:
            return lower if bound == float("inf") else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower
