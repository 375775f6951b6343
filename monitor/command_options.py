"""Options that several commands share, so that each is named and explained in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monitor.errors import ConfigError

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file with settings.", show_default=False)
]
BrokersOption = Annotated[
    str | None, typer.Option(help="host:port of the brokers, comma-separated.", show_default="localhost:9092")
]
SchemaOption = Annotated[str | None, typer.Option("--schema", help="Feature schema.", show_default="features.toml")]
RegistryOption = Annotated[str | None, typer.Option(help="Folder or URL of the models.", show_default="registry")]
ModelOption = Annotated[str | None, typer.Option(help="Model name.", show_default="the schema's name")]
VersionOption = Annotated[str | None, typer.Option(help="Pin one version.", show_default="the champion")]
FeaturesTopicOption = Annotated[str | None, typer.Option(help="Records to score.", show_default="features")]
AlertsTopicOption = Annotated[str | None, typer.Option(help="Where alerts go.", show_default="alerts")]
DeadLettersTopicOption = Annotated[str | None, typer.Option(help="Where bad records go.", show_default="dead-letters")]
GroupOption = Annotated[str | None, typer.Option(help="Consumer group, shared by replicas.", show_default="ganwatch")]
RateOption = Annotated[
    float | None, typer.Option(help="Expected share of normal records that are flagged.", show_default="0.001")
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(help="Flag from this score (0-100) on, instead of a target rate.", show_default=False),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other setting; may be repeated.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]


def parse_assignments(assignments: list[str] | None, flag: str = "--set") -> dict[str, object]:
    """`["max_rows=64"]` → `{"max_rows": "64"}`; `flag` is what they were given by.

    Raises:
        ConfigError: an entry without `=`.
    """
    pairs: dict[str, object] = {}
    for assignment in assignments or []:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(flag, f"expects KEY=VALUE, got {assignment.partition(' ')[0]!r} without a value")
        pairs[key.strip()] = value.strip()
    return pairs
