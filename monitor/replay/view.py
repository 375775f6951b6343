"""A replay for people and for programs: its progress while it runs, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from monitor.replay.replay import Replay, total
from monitor.stream.topic_reader import TimeRange


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[Replay], None]]:
    """Shows records done, rate, alerts and time left, on a terminal only."""
    columns = (
        TextColumn("replay"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TextColumn("{task.fields[flagged]:,} alerts"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("replay", total=None, rate=0.0, flagged=0)

        def show(replay: Replay) -> None:
            whole = total(replay.history.progress)
            bar.update(
                task,
                completed=whole.n_records,
                total=whole.n_records + replay.history.n_left,
                rate=rate_of(replay),
                flagged=whole.flagged,
            )

        yield show


def rate_of(replay: Replay) -> float:
    """Records per second of this run."""
    return replay.n_now / replay.seconds if replay.seconds else 0.0


def summary(replay: Replay, window: TimeRange, out: Path | None) -> dict[str, Any]:
    """What came of it, over all runs; `this_run` tells what this one did."""
    whole = total(replay.history.progress)
    manifest = replay.bundle.manifest
    return {
        "topic": replay.settings.features_topic,
        "from": None if window.start is None else window.start.isoformat(),
        "to": None if window.end is None else window.end.isoformat(),
        "group_id": replay.settings.group_id,
        "model": {"name": manifest.model, "version": replay.bundle.version, "sha256": replay.bundle.sha256},
        "threshold": replay.pipeline.threshold,
        "alerts_to": str(out) if out else replay.settings.alerts_topic,
        "records": whole.n_records,
        "scored": whole.scored,
        "flagged": whole.flagged,
        "invalid": whole.invalid,
        "skipped": whole.skipped,
        "resumed": replay.history.resumed,
        "this_run": {
            "records": replay.n_now,
            "seconds": round(replay.seconds, 3),
            "records_per_s": round(rate_of(replay), 1),
        },
        "partitions": {
            str(number): {"start": own.start, "end": own.end, "scored": own.scored, "flagged": own.flagged}
            for number, own in sorted(replay.history.progress.items())
        },
    }


def print_summary(console: Console, content: dict[str, Any]) -> None:
    """The same as a table."""
    table = Table(show_header=False, title=f"replay of {content['topic']}")
    share = content["flagged"] / content["scored"] if content["scored"] else 0.0
    invalid = ", ".join(f"{reason} {count:,}" for reason, count in content["invalid"].items()) or "none"
    run = content["this_run"]
    table.add_row("records", f"{content['records']:,}")
    table.add_row("alerts", f"{content['flagged']:,} ({share:.3%} of what was scored) to {content['alerts_to']}")
    table.add_row("invalid, not sent anywhere", invalid)
    if content["skipped"]:
        table.add_row("deleted before they were read", f"{content['skipped']:,}")
    table.add_row("threshold", f"{content['threshold']:.2f}")
    table.add_row("model", f"{content['model']['name']} {content['model']['version']}")
    table.add_row("this run", f"{run['records']:,} records in {run['seconds']:.1f} s, {run['records_per_s']:,.0f}/s")
    console.print(table)
    if content["resumed"] and not run["records"]:
        console.print("an earlier run had done all of it; --restart scores it again")
    elif content["resumed"]:
        console.print("an earlier run had begun it; the figures are of both")
