"""Finds out how the records of a topic are written, for `ganwatch init`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from monitor.encodings.record_decoder import transcoder_for
from monitor.encodings.schema_registry import SchemaRegistry
from monitor.encodings.transcoding import MAGIC, PREFIX_BYTES, Transcoder
from monitor.errors import ConfigError, InvalidRecord
from monitor.model.schema import Encoding
from monitor.settings import Settings

_FORMATS: dict[str, Literal["avro", "protobuf"]] = {"AVRO": "avro", "PROTOBUF": "protobuf"}


def recognise(
    values: Sequence[bytes | None], settings: Settings, source: str
) -> tuple[Encoding, Sequence[bytes | None]]:
    """How records are written, and the same records as JSON, None where that is not possible.

    Packed float32 is not recognised: such records name no fields.

    Args:
        values: raw records.
        settings: where the schema registry is.
        source: the topic, for errors.

    Raises:
        ConfigError: they have a schema in a registry, but no setting says where that is; or it is neither Avro nor Protobuf.
        SchemaRegistryError: it cannot be reached.
    """
    ids = [int.from_bytes(value[1:PREFIX_BYTES], "big") for value in values if value and _has_schema_id(value)]
    if len(ids) <= len(values) / 2:
        return Encoding(), values
    if settings.schema_registry_url is None:
        problem = f"its records begin with a schema id ({ids[-1]}): they are Avro or Protobuf"
        raise ConfigError(
            f"topic {source!r}", f"{problem}; set schema_registry_url, for example by GANWATCH_SCHEMA_REGISTRY_URL"
        )
    registered = SchemaRegistry(settings).schema(ids[-1])
    if registered is None or registered.type not in _FORMATS:
        found = (
            "the schema registry does not know"
            if registered is None
            else f"is of type {registered.type}, not supported"
        )
        raise ConfigError(f"topic {source!r}", f"its records begin with schema id {ids[-1]}, which {found}")
    encoding = _FORMATS[registered.type]
    transcode = transcoder_for(encoding, settings)
    return Encoding(format=encoding), [_document(value, transcode) for value in values]


def _has_schema_id(value: bytes) -> bool:
    return len(value) > PREFIX_BYTES and value[0] == MAGIC


def _document(value: bytes | None, transcode: Transcoder) -> bytes | None:
    try:
        return transcode(value or b"")
    except InvalidRecord:
        return None
