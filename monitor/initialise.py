"""`ganwatch init`: looks at a file or a topic and writes a commented features.toml."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import get_args

from monitor.encodings.recognition import recognise
from monitor.errors import ConfigError
from monitor.model.features_toml import write_features_toml
from monitor.model.inference import Inference, infer_schema
from monitor.model.json_records import frame_from_records
from monitor.model.schema import Kind
from monitor.model.tables import read_sample
from monitor.settings import Settings, load_settings
from monitor.stream.topic_reader import read_topic
from monitor.terminal import new_console

_FILE_SUFFIXES = frozenset({".csv", ".parquet", ".jsonl", ".ndjson", ".json", ".gz"})


def initialise(
    source: str,
    out: Path,
    *,
    name: str | None,
    timezone: str | None,
    records: int,
    force: bool,
    config: Path | None,
    bootstrap_servers: str | None,
) -> None:
    """Infers the schema and writes it.

    Args:
        source: a file, or else a topic.
        out: the file to write.
        name: of the schema; from the source by default.
        timezone: of time stamps that carry none.
        records: how many to look at.
        force: overwrite `out`.
        config: settings file, for the brokers.
        bootstrap_servers: the brokers.

    Raises:
        ConfigError: `out` exists, or nothing can be inferred.
        BrokerError: the topic cannot be read.
    """
    if out.exists() and not force:
        raise ConfigError(f"--out {out}", "exists already; give another name, or --force to overwrite it")
    settings = load_settings(config, flags={"bootstrap_servers": bootstrap_servers})
    inference = _infer(source, name or _name_from(source), timezone, records, settings)
    try:
        out.write_text(write_features_toml(inference, source), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {out}", f"cannot be written: {error.strerror}") from error
    _report(inference, source, out)


def _infer(source: str, name: str, timezone: str | None, records: int, settings: Settings) -> Inference:
    if Path(source).exists() or Path(source).suffix in _FILE_SUFFIXES:
        return infer_schema(read_sample(source, records), name, timezone=timezone)
    values = [record.value for record in read_topic(source, settings, last=records)]
    encoding, documents = recognise(values, settings, source)
    sample = frame_from_records(documents)
    if not sample.height:
        found = f"none of its last {len(values)} records is a JSON object" if values else "it holds no records"
        raise ConfigError(f"topic {source!r}", f"{found}; there is nothing to infer a schema from")
    inference = infer_schema(sample, name, timezone=timezone, n_skipped=len(values) - sample.height)
    return replace(inference, schema=inference.schema.model_copy(update={"encoding": encoding}))


def _name_from(source: str) -> str:
    """A valid schema name: the file's stem or the topic."""
    stem = Path(source).name.split(".")[0] if Path(source).exists() else source
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:100] or "features"


def _report(inference: Inference, source: str, out: Path) -> None:
    console = new_console()
    schema = inference.schema
    counts = ", ".join(f"{len(names)} {kind}" for kind in get_args(Kind) if (names := schema.of_kind(kind)))
    console.print(f"{out}: schema {schema.name!r} from {source}, {len(schema.features)} features ({counts})")
    command = f"ganwatch train --schema {shlex.quote(str(out))} --data {shlex.quote(source)}"
    console.print(f"read its comments, then: {command}", soft_wrap=True)
