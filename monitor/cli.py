"""The `ganwatch` command: parses, delegates, and turns our errors into one line and an exit code.

Commands import what they need when they run, so that `ganwatch --help` and `ganwatch run` start quickly. Other packages add
commands through the entry-point group `ganwatch.commands`.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from monitor.catalogue.command import app as models_app
from monitor.check.command import check
from monitor.command_options import (
    AlertsTopicOption,
    BrokersOption,
    ConfigOption,
    DeadLettersTopicOption,
    FeaturesTopicOption,
    GroupOption,
    ModelOption,
    RateOption,
    RegistryOption,
    SchemaOption,
    SetOption,
    ThresholdOption,
    VersionOption,
    parse_assignments,
)
from monitor.dead_letters.command import app as dead_letters_app
from monitor.errors import ConfigError, GanwatchError
from monitor.native_memory import limit_arenas
from monitor.replay.command import replay

app = typer.Typer(
    name="ganwatch",
    help="Watches a Kafka topic for anomalous records: a trained EfficientGAN scores them, alerts say which fields were odd and "
    "what was expected instead.",
    epilog="Start with `ganwatch demo`, or with your own data: init, train, run. Exit codes: 2 configuration, 3 too many bad "
    "records, 4 model, 5 broker, 6 stuck.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(models_app, name="models")
app.add_typer(dead_letters_app, name="dead-letters")
app.command()(check)
app.command()(replay)

_BASE_COMMANDS = {"init", "run", "score", "models", "check", "dead-letters", "replay"}
_EXTRAS = {
    "train": "train", "detectors": "train", "evaluate": "train", "retrain": "train", "simulate": "demo", "demo": "demo"
}  # fmt: skip


@app.command()
def run(
    config: ConfigOption = None,
    schema: SchemaOption = None,
    registry: RegistryOption = None,
    model: ModelOption = None,
    model_version: VersionOption = None,
    bootstrap_servers: BrokersOption = None,
    features_topic: FeaturesTopicOption = None,
    alerts_topic: AlertsTopicOption = None,
    dead_letters_topic: DeadLettersTopicOption = None,
    group_id: GroupOption = None,
    create_topics: Annotated[
        bool | None, typer.Option("--create-topics", help="Create missing topics.", show_default=False)
    ] = None,
    target_alert_rate: RateOption = None,
    threshold: ThresholdOption = None,
    http_host: Annotated[
        str | None, typer.Option(help="Address of /metrics, /healthz, /readyz.", show_default="127.0.0.1")
    ] = None,
    http_port: Annotated[int | None, typer.Option(help="Its port; 0 takes a free one.", show_default="9464")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default="info")] = None,
    settings: SetOption = None,
    list_settings: Annotated[
        bool, typer.Option("--list-settings", help="Print every setting, its default and meaning.")
    ] = False,
) -> None:
    """Watch a topic: score its records, publish alerts and dead letters, show metrics.

    Settings come from the TOML file, from GANWATCH_… variables and from flags; the later ones win. SIGTERM stops cleanly,
    SIGHUP reads thresholds again.
    """
    if list_settings:
        _print_settings()
        return
    # Micro-batches are decoded side by side; a pool of threads for each of them would only take the cores from the others.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    limit_arenas()
    from monitor.daemon import run_daemon
    from monitor.reloader import SettingsSource

    named = {
        "schema_path": schema,
        "registry": registry,
        "model": model,
        "model_version": model_version,
        "bootstrap_servers": bootstrap_servers,
        "features_topic": features_topic,
        "alerts_topic": alerts_topic,
        "dead_letters_topic": dead_letters_topic,
        "group_id": group_id,
        "create_topics": create_topics,
        "target_alert_rate": target_alert_rate,
        "threshold": threshold,
        "http_host": http_host,
        "http_port": http_port,
        "log_level": log_level,
    }
    given = {key: value for key, value in named.items() if value is not None}
    run_daemon(SettingsSource(config, parse_assignments(settings) | given))


def _print_settings() -> None:
    """Every setting with its default and meaning."""
    from monitor.settings import Settings

    for name, info in Settings.model_fields.items():
        typer.echo(f"{name:<24} {info.default!s:<16} {info.description}")


@app.command()
def init(
    source: Annotated[
        str, typer.Option("--from", metavar="FILE|TOPIC", help="CSV, Parquet or JSON-lines file, or a Kafka topic.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the schema.")] = Path("features.toml"),
    name: Annotated[
        str | None, typer.Option(help="Name of the schema and its model.", show_default="from the file or topic")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(help="IANA zone of time stamps that carry none.", show_default=False)
    ] = None,
    records: Annotated[int, typer.Option(help="How many records to look at.", min=1)] = 10_000,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    config: ConfigOption = None,
    bootstrap_servers: BrokersOption = None,
) -> None:
    """Infer features.toml from a file or from the last records of a topic.

    Every column is explained in a comment: what it was taken for and why. Read it before training.
    """
    from monitor.initialise import initialise

    initialise(
        source,
        out,
        name=name,
        timezone=timezone,
        records=records,
        force=force,
        config=config,
        bootstrap_servers=bootstrap_servers,
    )


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="CSV, Parquet or JSON-lines file.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write all rows' scores there (.csv, .parquet, .jsonl).", show_default=False),
    ] = None,
    top: Annotated[int, typer.Option(help="How many of the highest scores to show.", min=0)] = 10,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    config: ConfigOption = None,
    schema: SchemaOption = None,
    registry: RegistryOption = None,
    model: ModelOption = None,
    target_alert_rate: RateOption = None,
    threshold: ThresholdOption = None,
) -> None:
    """Score a file with the very code of the daemon.

    Columns named topic, partition and offset, when there are any, are taken for the record's place in Kafka, so that ties
    between equal scores are broken as the daemon breaks them.
    """
    from monitor.offline import print_scores, score_file
    from monitor.settings import load_settings

    flags = {
        "schema_path": schema,
        "registry": registry,
        "model": model,
        "target_alert_rate": target_alert_rate,
        "threshold": threshold,
    }
    print_scores(score_file(file, load_settings(config, flags=flags), top=top), out=out, as_json=json_output)


def _add_commands_of_other_packages() -> None:
    for entry in entry_points(group="ganwatch.commands"):
        if entry.name not in _BASE_COMMANDS:
            app.command(name=entry.name)(entry.load())


def _missing_extra(command: str, error: ModuleNotFoundError) -> str | None:
    """A sentence, when a missing package explains why a command of an extra failed."""
    extra = _EXTRAS.get(command)
    if extra is None or (error.name or "").startswith(("monitor", "training")):
        return None
    return f"`ganwatch {command}` needs the package {error.name}; install it with `pip install 'ganwatch[{extra}]'`"


def main() -> None:
    """Entry point of the console script."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command not in _BASE_COMMANDS:
        _add_commands_of_other_packages()
    # kafka-python logs every attempt to reconnect; what matters of it reaches the user as one of our errors.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        app()
    except GanwatchError as error:
        _end(str(error), error.exit_code)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - what is left in its buffer cannot be written, either
        _end(f"{error.filename or 'the output'} cannot be written: {error.strerror}", 1)
    except ModuleNotFoundError as error:
        sentence = _missing_extra(command, error)
        if sentence is None:
            raise
        _end(sentence, ConfigError.exit_code)


def _end(sentence: str, exit_code: int) -> None:
    typer.echo(f"ganwatch: {sentence}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
