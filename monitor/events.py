"""The document `ganwatch.model-event/1`: what happens to the models in service, for those who want to act on it.

Its JSON Schema is `events.schema.json` beside this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Literal

import msgspec

FORMAT = "ganwatch.model-event/1"

EventKind = Literal["swapped", "refused", "rolled_back", "fell_back", "drift"]


class ModelEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event.

    Attributes:
        format: `ganwatch.model-event/1`.
        kind: `swapped`: another model scores from now on; `refused`: a version cannot be used, so the old one stays or none is tried;
            `rolled_back`: the guard had the registry go back; `fell_back`: it could not, the old one scores in this process
            alone; `drift`: the records have changed.
        time: ISO 8601, UTC.
        model: name of the model.
        version: the version that the event is about.
        group: consumer group of the monitor that says so.
        reason: a sentence.
        detail: more, by kind.
    """

    format: str = FORMAT
    kind: EventKind
    time: str
    model: str
    version: str
    group: str
    reason: str
    detail: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def to_json(self) -> bytes:
        """The document."""
        return msgspec.json.encode(self)


def event_time() -> str:
    """This moment as events state it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_schema() -> dict[str, Any]:
    """The JSON Schema of the document."""
    schema: dict[str, Any] = msgspec.json.decode(files("monitor").joinpath("events.schema.json").read_bytes())
    return schema
