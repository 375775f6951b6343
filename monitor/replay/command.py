# ruff: noqa: FBT002 - flags of the command line
"""`ganwatch replay`: parses, runs, and says how to go on after an interruption."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from monitor.command_options import (
    BrokersOption,
    ConfigOption,
    FeaturesTopicOption,
    GroupOption,
    JsonOption,
    ModelOption,
    RateOption,
    RegistryOption,
    SchemaOption,
    SetOption,
    ThresholdOption,
    VersionOption,
    parse_assignments,
)
from monitor.native_memory import limit_arenas

INTERRUPTED = 130


def replay(
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="First moment, ISO 8601 with zone; a date is midnight UTC.")
    ],
    end: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="TIME", help="First moment that is not replayed.", show_default="what is there now"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the alerts into this file, one a line, instead of a topic.", show_default=False),
    ] = None,
    alerts_topic: Annotated[
        str | None, typer.Option(help="Where alerts go, marked `replay`.", show_default="the live one's")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Names this replay, to go on with it later.", show_default="from range, model, destination"),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, whatever an earlier run has done.")] = False,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    schema: SchemaOption = None,
    registry: RegistryOption = None,
    model: ModelOption = None,
    model_version: VersionOption = None,
    bootstrap_servers: BrokersOption = None,
    features_topic: FeaturesTopicOption = None,
    group_id: GroupOption = None,
    target_alert_rate: RateOption = None,
    threshold: ThresholdOption = None,
    settings: SetOption = None,
) -> None:
    """Score a time range of the features topic once more with the daemon's own code, beside the running group.

    Alerts carry `replay: true` and the ids that live ones have. Records that cannot be scored are counted only. Progress is
    committed under a group of its own, GROUP-replay-…: after a kill the same command goes on where it was.
    """
    # As in the daemon: micro-batches are decoded side by side, each by one thread.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    limit_arenas()
    from monitor.champion import load_champion
    from monitor.replay.replay import Request
    from monitor.replay.replay import replay as run_replay
    from monitor.replay.view import print_summary, progress_bar, summary
    from monitor.settings import load_settings
    from monitor.stream.topic_reader import TimeRange
    from monitor.terminal import new_console, print_json

    given = {
        "schema_path": schema,
        "registry": registry,
        "model": model,
        "model_version": model_version,
        "bootstrap_servers": bootstrap_servers,
        "features_topic": features_topic,
        "alerts_topic": alerts_topic,
        "group_id": group_id,
        "target_alert_rate": target_alert_rate,
        "threshold": threshold,
    }
    flags = parse_assignments(settings) | {key: value for key, value in given.items() if value is not None}
    of_stream = load_settings(config, flags=flags)
    window = TimeRange(*_range(start, end))
    request = Request(window, out, name, restart)
    bundle = load_champion(of_stream)
    with _stoppable(), progress_bar(new_console(stderr=True)) as show:
        done = run_replay(of_stream, bundle, request, show)
    content = summary(done, window, out)
    if json_output:
        print_json(content)
    else:
        print_summary(new_console(), content)


def _range(start: str, end: str | None) -> tuple[datetime, datetime | None]:
    from monitor.errors import ConfigError
    from monitor.moments import parse_moment

    first = parse_moment(start, "--from")
    last = None if end is None else parse_moment(end, "--to")
    if last is not None and last <= first:
        raise ConfigError("--to", f"{end} is not after --from {start}")
    return first, last


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends it as Ctrl-C does; what is committed by then stays."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("ganwatch: interrupted; the same command goes on with the replay", err=True)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)
