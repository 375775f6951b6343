"""What came out of a demo: the daemon's alerts compared with the truth, its counters, and where everything lies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from training.demo_material import Material
from training.demo_view import describe_seconds
from training.payment_stream import NORMAL

LEAST_PRECISION = 0.8
LEAST_RECALL = 0.8


@dataclass(frozen=True)
class Outcome:
    """How one kind of anomaly fared: `found` of `records` were flagged."""

    records: int
    found: int


@dataclass(frozen=True)
class DemoSummary:
    """The figures of a demo.

    Attributes:
        source: what was streamed.
        records: published.
        scored: by the daemon.
        dead_letters: records the daemon could not score.
        lost: records neither scored nor dead-lettered.
        alerts: distinct ones read from the topic.
        duplicates: alerts read more than once.
        anomalies: records that are anomalous in truth.
        precision: share of the alerts that are right; None without alerts.
        recall: share of the anomalies that were flagged; None without anomalies.
        kinds: the same by kind of anomaly.
        records_per_s: from the first record published to the last one acknowledged by the daemon.
        p50_latency_s: from a record's Kafka timestamp to its acknowledgement, from the daemon's histogram.
        p99_latency_s: the same.
        train_s: seconds spent training, with the import of TensorFlow.
        start_s: seconds from starting the daemon until it was ready, with joining its group.
        total_s: seconds of the whole demo.
        workdir: where alerts, metrics, model and data lie.
        held_to_goals: whether precision and recall decide the exit code.
        interrupted: whether the user ended it early.
    """

    source: str
    records: int
    scored: int
    dead_letters: int
    lost: int
    alerts: int
    duplicates: int
    anomalies: int
    precision: float | None
    recall: float | None
    kinds: Mapping[str, Outcome]
    records_per_s: float
    p50_latency_s: float | None
    p99_latency_s: float | None
    train_s: float
    start_s: float
    total_s: float
    workdir: str
    held_to_goals: bool
    interrupted: bool

    @property
    def problems(self) -> tuple[str, ...]:
        """What is not as it should be, a sentence each."""
        problems = []
        if self.lost:
            problems.append(f"{self.lost} records were lost")
        if self.held_to_goals and not self.interrupted:
            if self.precision is None or self.precision < LEAST_PRECISION:
                problems.append(f"precision {_share(self.precision)} is below {LEAST_PRECISION}")
            if self.recall is None or self.recall < LEAST_RECALL:
                problems.append(f"recall {_share(self.recall)} is below {LEAST_RECALL}")
        return tuple(problems)

    @property
    def exit_code(self) -> int:
        """130 when interrupted, 1 when something is wrong, else 0."""
        return 130 if self.interrupted else 1 if self.problems else 0

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self) | {"problems": list(self.problems)}


@dataclass(frozen=True)
class Detections:
    """Alerts against the truth; see DemoSummary."""

    alerts: int
    duplicates: int
    anomalies: int
    precision: float | None
    recall: float | None
    kinds: Mapping[str, Outcome]


def compare(
    material: Material, positions: Mapping[tuple[int, int], int], flagged: Iterable[tuple[int, int]]
) -> Detections:
    """Compares alerts with the truth.

    Args:
        material: the stream and the truth about it.
        positions: row of the stream that each published record is, by partition and offset.
        flagged: partition and offset of the record of each alert read.
    """
    places = list(flagged)
    rows = sorted({positions[place] for place in places})
    published = np.zeros(len(material.kind), dtype=bool)
    published[list(positions.values())] = True
    is_flagged = np.zeros(len(material.kind), dtype=bool)
    is_flagged[rows] = True
    is_anomaly = material.label & published
    right = int((is_flagged & is_anomaly).sum())
    kinds = {}
    for kind in sorted(set(material.kind[is_anomaly].tolist()) - {NORMAL}):
        of_kind = is_anomaly & (material.kind == kind)
        kinds[kind] = Outcome(int(of_kind.sum()), int((of_kind & is_flagged).sum()))
    n_anomalies = int(is_anomaly.sum())
    return Detections(
        alerts=len(rows),
        duplicates=len(places) - len(rows),
        anomalies=n_anomalies,
        precision=right / len(rows) if rows else None,
        recall=right / n_anomalies if n_anomalies else None,
        kinds=kinds,
    )


def describe_summary(summary: DemoSummary) -> list[str]:
    """Tells a person how it went, where things are, and what to do next; a line each."""
    right = f"precision {_share(summary.precision)}, recall {_share(summary.recall)}"
    latency = f"p50 {describe_seconds(summary.p50_latency_s)}, p99 {describe_seconds(summary.p99_latency_s)}"
    lines = [
        f"{'interrupted: ' if summary.interrupted else ''}{summary.source}",
        f"  records    {summary.records:,} published, {summary.scored:,} scored, {summary.dead_letters:,} dead letters, "
        f"{summary.lost:,} lost; {summary.records_per_s:,.0f} a second",
        f"  alerts     {summary.alerts:,} for {summary.anomalies:,} anomalies; {right}",
    ]
    for kind, outcome in summary.kinds.items():
        found = f"{outcome.found:,} of {outcome.records:,} found"
        lines.append(f"             {kind:<20} {found:>22}  {_share(outcome.found / outcome.records)}")
    lines += [
        f"  latency    {latency} (from the record's time stamp to the acknowledged result)",
        f"  time       {summary.train_s:.0f} s to train, {summary.start_s:.1f} s to start the daemon and join its group, "
        f"{summary.total_s:.0f} s in all",
        *(f"  problem    {problem}" for problem in summary.problems),
    ]
    return [*lines, *_describe_files(summary.workdir)]


def _describe_files(workdir: str) -> list[str]:
    return [
        f"  files      in {workdir}: alerts.jsonl (every alert), metrics.prom (the last scrape), daemon.log,",
        "             registry (the model), features.toml, ganwatch.toml, train.jsonl, stream.jsonl (with the truth)",
        "next",
        f"  cd {workdir} && ganwatch evaluate stream.jsonl --label is_anomaly --config ganwatch.toml",
        "  ganwatch demo --data FILE --label COLUMN     the same with your own labelled file",
        "  ganwatch init --from FILE|TOPIC              then train and run: watch a topic of your own",
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
