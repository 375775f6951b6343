# ruff: noqa: FBT002 - flags of the command line
"""`ganwatch dead-letters`: list what could not be scored, and send repaired records back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.command_options import (
    BrokersOption,
    ConfigOption,
    DeadLettersTopicOption,
    FeaturesTopicOption,
    JsonOption,
    SchemaOption,
    SetOption,
    parse_assignments,
)

if TYPE_CHECKING:
    from monitor.settings import Settings
    from monitor.stream.topic_reader import TimeRange

app = typer.Typer(
    help="List records that could not be scored, and send repaired ones back.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ReasonOption = Annotated[
    list[str] | None, typer.Option("--reason", help="Only of this reason; may be repeated.", show_default="all")
]
RecordOption = Annotated[
    list[str] | None,
    typer.Option(
        "--record",
        metavar="PARTITION:OFFSET[..OFFSET]",
        help="Only records that stood there in the features topic; may be repeated.",
        show_default="all",
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(help="Only letters written since a time (ISO 8601) or for so long (15m, 2h, 7d).", show_default="all"),
]


@app.command("list")
def list_letters(
    reason: ReasonOption = None,
    record: RecordOption = None,
    since: SinceOption = None,
    last: Annotated[int, typer.Option(help="Show so many of the latest that match; 0 only counts.", min=0)] = 20,
    values: Annotated[
        bool, typer.Option("--values", help="With --json: whole values, ready to be repaired and given to `requeue`.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object a line for programs.")] = False,
    config: ConfigOption = None,
    bootstrap_servers: BrokersOption = None,
    dead_letters_topic: DeadLettersTopicOption = None,
    settings: SetOption = None,
) -> None:
    """Show dead letters: which record, why, since when, how large, how it begins; and how many there are of each reason."""
    import heapq
    from collections import Counter

    from monitor.dead_letters.letters import read_letters
    from monitor.dead_letters.selection import parse_selection
    from monitor.dead_letters.view import as_json, print_letters
    from monitor.terminal import new_console, print_json

    given = _settings(config, settings, bootstrap_servers=bootstrap_servers, dead_letters_topic=dead_letters_topic)
    selection = parse_selection(reason, record)
    found: Counter[str] = Counter()
    matching = (letter for letter in read_letters(given, _window(since)) if letter is not None and letter in selection)
    counted = ((found.update([letter.reason]), letter)[1] for letter in matching)
    latest = heapq.nlargest(last or 1, counted, key=lambda letter: (letter.dead_since_ms, letter.place))[:last][::-1]
    if json_output:
        for letter in latest:
            print_json(as_json(letter, with_value=values))
    else:
        print_letters(new_console(), latest, found, given.dead_letters_topic)


@app.command()
def requeue(
    reason: ReasonOption = None,
    record: RecordOption = None,
    since: SinceOption = None,
    repaired: Annotated[
        Path | None,
        typer.Option(
            help='JSON lines with new values, {"partition": 0, "offset": 17, "value": {…}}; only these records are sent.',
            show_default=False,
        ),
    ] = None,
    even_invalid: Annotated[
        bool, typer.Option("--even-invalid", help="Send also what would be a dead letter again.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send them; without it they are only counted.")] = False,
    json_output: JsonOption = False,
    config: ConfigOption = None,
    schema: SchemaOption = None,
    bootstrap_servers: BrokersOption = None,
    features_topic: FeaturesTopicOption = None,
    dead_letters_topic: DeadLettersTopicOption = None,
    settings: SetOption = None,
) -> None:
    """Send records back to the features topic, as they were or repaired. Without --yes it only counts.

    A record keeps its key, its partition and its headers; `requeued_from` and `requeued_record` say where it comes from. It
    gets a new offset and a new time. What would be a dead letter again is left, and so is one whose value was too large to be
    kept. Two runs send everything twice: narrow the second one with --since, --record or --repaired.
    """
    from monitor.dead_letters.letters import read_letters
    from monitor.dead_letters.repairs import read_repairs
    from monitor.dead_letters.requeue import Plan, rehearse
    from monitor.dead_letters.requeue import requeue as send_back
    from monitor.dead_letters.selection import parse_selection
    from monitor.dead_letters.view import plan_as_json, print_plan
    from monitor.encodings.record_decoder import decoder_for
    from monitor.model.decode import Decoder
    from monitor.model.schema import Schema
    from monitor.terminal import new_console, print_json

    given = _settings(
        config,
        settings,
        schema_path=schema,
        bootstrap_servers=bootstrap_servers,
        features_topic=features_topic,
        dead_letters_topic=dead_letters_topic,
    )
    plan = Plan(
        settings=given,
        selection=parse_selection(reason, record),
        repairs=None if repaired is None else read_repairs(repaired, given.features_topic),
        decoder=None
        if even_invalid
        else decoder_for(Decoder(Schema.load(given.schema_path), given.max_record_bytes), given),
    )
    letters = read_letters(given, _window(since))
    (send_back if yes else rehearse)(plan, letters)
    if json_output:
        print_json(plan_as_json(plan, sent=yes))
    else:
        print_plan(new_console(), plan, sent=yes)


def _settings(config: Path | None, assignments: list[str] | None, **flags: object) -> Settings:
    from monitor.settings import load_settings

    given = {name: value for name, value in flags.items() if value is not None}
    return load_settings(config, flags=parse_assignments(assignments) | given)


def _window(since: str | None) -> TimeRange:
    from datetime import UTC, datetime

    from monitor.moments import parse_since
    from monitor.stream.topic_reader import TimeRange

    return TimeRange(None if since is None else parse_since(since, "--since", datetime.now(UTC)))
