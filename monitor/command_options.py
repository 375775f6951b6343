"""Options that several commands share, so that each is named and explained in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file with settings.", show_default=False)
]
BrokersOption = Annotated[
    str | None, typer.Option(help="host:port of the brokers, comma-separated.", show_default="localhost:9092")
]
SchemaOption = Annotated[str | None, typer.Option("--schema", help="Feature schema.", show_default="features.toml")]
RegistryOption = Annotated[str | None, typer.Option(help="Folder or URL of the models.", show_default="registry")]
ModelOption = Annotated[str | None, typer.Option(help="Model name.", show_default="the schema's name")]
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
