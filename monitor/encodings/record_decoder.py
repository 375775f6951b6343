"""Chooses the decoder for the encoding that `features.toml` names; the daemon and every command that reads a topic come here."""

from __future__ import annotations

import importlib
from typing import Literal

from monitor.encodings.avro import avro_reader
from monitor.encodings.float32 import Float32Decoder
from monitor.encodings.protobuf import QUERY, protobuf_reader
from monitor.encodings.schema_registry import SchemaRegistry
from monitor.encodings.transcoding import Patience, Transcoder, TranscodingDecoder, impatient
from monitor.errors import ConfigError
from monitor.model.decode import Decoder, RecordDecoder
from monitor.settings import Settings


def decoder_for(json: Decoder, settings: Settings, patience: Patience = impatient) -> RecordDecoder:
    """The decoder for the records of a topic.

    Args:
        json: decodes JSON records of the same features; its schema says how they are really written.
        settings: where the schema registry is.
        patience: what to do when that cannot be reached; by default its error ends the command.

    Raises:
        ConfigError: a setting or a package is missing that the encoding needs.
    """
    encoding = json.schema.encoding.format
    if encoding == "json":
        return json
    if encoding == "float32":
        return Float32Decoder(json.schema)
    return TranscodingDecoder(json, transcoder_for(encoding, settings, patience))


def transcoder_for(
    encoding: Literal["avro", "protobuf"], settings: Settings, patience: Patience = impatient
) -> Transcoder:
    """What makes JSON of single records; see `decoder_for`.

    Raises:
        ConfigError: a setting or a package is missing.
    """
    if encoding == "avro":
        _require("fastavro", encoding)
        return Transcoder(SchemaRegistry(settings), "AVRO", avro_reader, patience)
    _require("google.protobuf", encoding)
    return Transcoder(SchemaRegistry(settings, QUERY), "PROTOBUF", protobuf_reader, patience)


def _require(package: str, encoding: str) -> None:
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ConfigError(
            "[encoding]",
            f"format = {encoding!r} needs the package {error.name}; install it with `pip install 'ganwatch[encodings]'`",
        ) from error
