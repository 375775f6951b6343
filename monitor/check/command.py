# ruff: noqa: FBT002 - flags of the command line
"""`ganwatch check`: everything that `ganwatch run` will need, tried without writing anything to Kafka."""

from __future__ import annotations

import typer

from monitor.command_options import (
    AlertsTopicOption,
    BrokersOption,
    ConfigOption,
    DeadLettersTopicOption,
    FeaturesTopicOption,
    GroupOption,
    JsonOption,
    ModelOption,
    RegistryOption,
    SchemaOption,
    SetOption,
    VersionOption,
    parse_assignments,
)


def check(
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
    settings: SetOption = None,
    json_output: JsonOption = False,
) -> None:
    """Try everything that `ganwatch run` will need, and say how to mend what is wrong. Writes nothing to Kafka.

    Libraries, schema, registry, model (its golden records are scored again), broker, topics, rights, whether the latest
    records fit the schema, and whether alerts fit their topic. The exit code is 0, or the highest of what `ganwatch run`
    would end with.
    """
    from monitor.check.checklist import check_all
    from monitor.check.view import print_trials
    from monitor.terminal import new_console, print_json

    given = {
        "schema_path": schema,
        "registry": registry,
        "model": model,
        "model_version": model_version,
        "bootstrap_servers": bootstrap_servers,
        "features_topic": features_topic,
        "alerts_topic": alerts_topic,
        "dead_letters_topic": dead_letters_topic,
        "group_id": group_id,
    }
    flags = parse_assignments(settings) | {name: value for name, value in given.items() if value is not None}
    trials = check_all(config, flags)
    if json_output:
        print_json({"exit_code": trials.exit_code, "trials": trials.done})
    else:
        print_trials(new_console(), trials.done)
    raise typer.Exit(trials.exit_code)
