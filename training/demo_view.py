"""Shows a running demo: a live panel on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from training.demo_alerts import Alert
from training.demo_scrape import Buckets, Scrape, quantile

PLAIN_LINE_EVERY_S = 3.0
_SHOWN_ALERTS = 8
_TOP_FEATURES = 3
_BAR_WIDTH = 34
_SEVERITY_STYLES = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "green"}


@dataclass(frozen=True)
class Moment:
    """What a demo looks like right now.

    Attributes:
        elapsed_s: since the first record was published.
        published: records the broker has acknowledged.
        records: records there will be.
        rate: records per second that came out of the daemon of late.
        scrape: the daemon's metrics.
        alerts: all alerts read so far, oldest first.
    """

    elapsed_s: float
    published: int
    records: int
    rate: float
    scrape: Scrape
    alerts: Sequence[Alert]


class View(Protocol):
    """Shows moments, within `with`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, moment: Moment) -> None:
        """Shows the latest moment."""
        ...


def view_for(console: Console) -> View:
    """The view that suits the console."""
    return TerminalView(console) if console.is_terminal else PlainView(console)


class PlainView:
    """A line now and then."""

    def __init__(self, console: Console) -> None:
        """Prints on `console`."""
        self._console = console
        self._next_line_at = time.monotonic() + PLAIN_LINE_EVERY_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, moment: Moment) -> None:
        """Prints a line when the last one is old enough."""
        if time.monotonic() < self._next_line_at:
            return
        self._next_line_at = time.monotonic() + PLAIN_LINE_EVERY_S
        last = f"; last: {describe_alert(moment.alerts[-1])}" if moment.alerts else ""
        self._console.print(
            f"{moment.elapsed_s:5.1f} s  {moment.scrape.done:,} of {moment.records:,} records, {moment.rate:,.0f}/s, "
            f"lag {moment.scrape.lag:,}, {moment.scrape.flagged:,} alerts{last}",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )


class TerminalView:
    """Progress, rates, a histogram of the scores and the latest alerts, redrawn in place."""

    def __init__(self, console: Console) -> None:
        """Draws on `console`."""
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, moment: Moment) -> None:
        """Redraws."""
        self._live.update(draw(moment))


def draw(moment: Moment) -> RenderableType:
    """The whole panel."""
    upper = Table.grid(padding=(0, 3))
    upper.add_row(_draw_numbers(moment), _draw_histogram(moment.scrape.score, moment.scrape.threshold))
    bar = ProgressBar(total=moment.records, completed=moment.scrape.done)
    return Panel(
        Group(bar, Text(), upper, Text(), _draw_alerts(moment.alerts)), title="ganwatch demo", subtitle="Ctrl-C ends it"
    )


def _draw_numbers(moment: Moment) -> Table:
    scrape = moment.scrape
    numbers = Table.grid(padding=(0, 2))
    numbers.add_column(style="dim")
    numbers.add_column(justify="right")
    rows = {
        "records scored": f"{scrape.scored:,} of {moment.records:,}",
        "records per second": f"{moment.rate:,.0f}",
        "lag, records": f"{scrape.lag:,}",
        "latency p50, p99": f"{describe_seconds(quantile(scrape.latency, 0.5))}, {describe_seconds(quantile(scrape.latency, 0.99))}",
        "alerts": f"{scrape.flagged:,}",
        "dead letters": f"{scrape.dead_lettered:,}",
        "elapsed": f"{moment.elapsed_s:.0f} s",
    }
    for name, value in rows.items():
        numbers.add_row(name, value)
    return numbers


def _draw_histogram(buckets: Buckets, threshold: float) -> Table:
    """Scores by bucket; the bars grow with the square root, so that the rare high scores can be seen."""
    table = Table(title=f"scores, alerts from {threshold:.1f}", box=None, padding=(0, 1))
    for name in ("score", "", "records"):
        table.add_column(name, justify="left" if name == "" else "right", min_width=_BAR_WIDTH if name == "" else 0)
    bounds = [0.0, *(bound for bound, _ in buckets)]
    cumulative = [0.0, *(count for _, count in buckets)]
    counts = [after - before for before, after in itertools.pairwise(cumulative)]
    longest = max([*counts, 1.0]) ** 0.5
    for lower, upper, count in zip(bounds[:-1], bounds[1:], counts, strict=True):
        style = "red" if lower >= threshold else "yellow" if upper > threshold else "green"
        name = f"{lower:.0f}-{upper:.0f}" if upper < 99.9 else "100" if lower >= 99.9 else f"{lower:.0f}-100"
        table.add_row(name, Text("█" * round(_BAR_WIDTH * count**0.5 / longest), style=style), f"{count:,.0f}")
    return table


def _draw_alerts(alerts: Sequence[Alert]) -> Table:
    table = Table(title="latest alerts", box=None, padding=(0, 1), expand=True, title_justify="left")
    table.add_column("score", justify="right")
    table.add_column("record", no_wrap=True)
    table.add_column("odd: value → expected", no_wrap=True, overflow="ellipsis", ratio=1)
    for alert in reversed(alerts[-_SHOWN_ALERTS:]):
        table.add_row(
            Text(f"{alert['score']:.1f}", style=_SEVERITY_STYLES.get(alert["severity"], "")),
            Text(describe_record(alert)),
            Text(describe_reasons(alert)),
        )
    return table


def describe_alert(alert: Alert) -> str:
    """Record, score and reasons on one line."""
    return f"{describe_record(alert)} {alert['score']:.1f}: {describe_reasons(alert)}"


def describe_record(alert: Alert) -> str:
    """The record's own id, or its place in Kafka."""
    record = alert["record"]
    return (
        str(record["id"]) if record["id"] is not None else f"{record['topic']}/{record['partition']}/{record['offset']}"
    )


def describe_reasons(alert: Alert) -> str:
    """The top features, value → expected; those whose very value was expected only when there is no other."""
    reasons = alert["attribution"]
    differing = [reason for reason in reasons if reason["value"] != reason["expected"]]
    return ", ".join(
        f"{reason['feature']} {describe_value(reason['value'])} → {describe_value(reason['expected'])}"
        for reason in (differing or reasons)[:_TOP_FEATURES]
    )


def describe_value(value: Any) -> str:
    """A value in few characters."""
    if value is None:
        return "missing"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def describe_seconds(seconds: float | None) -> str:
    """Seconds or milliseconds; a dash when unknown."""
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
