"""What decoding a record costs in every encoding: `make bench-encodings`.

The same KDD99 records as JSON, packed float32, Avro and Protobuf, in micro-batches of the daemon's default size, decoded by what
the daemon uses, in turns; medians of the process's CPU time.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from monitor.encodings.record_decoder import decoder_for
from monitor.model.decode import Decoder, RecordDecoder
from monitor.model.raw_values import RawValues
from monitor.model.schema import Schema
from monitor.settings import Settings
from tests.benchmarks.goals import report
from tests.schema_registry import SchemaRegistryServer

RECORDS = 20_480
PREFIX = b"\0" + (1).to_bytes(4, "big")


def main() -> int:
    """Measures and prints; there is no goal, for the encoding is the user's choice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5, help="runs of each encoding")
    arguments = parser.parse_args()
    if not os.environ.get("GANWATCH_DATA"):
        parser.error("set GANWATCH_DATA: the folder of the data sets")
    records, schema = kdd99_records(Path(os.environ["GANWATCH_DATA"]))
    written = write(records, schema)
    costs = measure(written, schema, arguments.repetitions)
    figures = {}
    print("| encoding | bytes a record | µs of CPU a record | of JSON |\n|---|---|---|---|")
    for encoding, cost in costs.items():
        size = statistics.mean(map(len, written[encoding]))
        ratio = cost / costs["json"]
        print(f"| {encoding} | {size:.0f} | {cost:.2f} | {ratio:.2f} |")
        figures |= {f"{encoding}_us": round(cost, 3), f"ratio_{encoding}_to_json": round(ratio, 3)}
    return report(figures, {})


def kdd99_records(data: Path) -> tuple[list[bytes], Schema]:
    """JSON records in a random order, and their schema."""
    from tests.benchmarks.kdd99_stream import encode
    from training.datasets import kdd99_schema, load_kdd99

    return encode(load_kdd99(data).sample(RECORDS, random_state=1)), kdd99_schema()


def write(records: Sequence[bytes], schema: Schema) -> dict[str, list[bytes]]:
    """The same records in every encoding."""
    rows = [msgspec.json.decode(record) for record in records]
    return {
        "json": list(records),
        "float32": pack(records, schema),
        "avro": _as_avro(rows, schema),
        "protobuf": _as_protobuf(rows, schema),
    }


def packed_schema(records: Sequence[bytes], schema: Schema) -> Schema:
    """The same schema for packed records, with the categories that occur."""
    frame = Decoder(schema, 2**20).decode(records).frame
    codes = {name: frame[name].drop_nulls().unique().sort().to_list() for name in schema.of_kind("categorical")}
    return encoded(schema, "float32", codes)


def pack(records: Sequence[bytes], schema: Schema) -> list[bytes]:
    """JSON records as packed float32."""
    codes = packed_schema(records, schema).encoding.codes
    frame = Decoder(schema, 2**20).decode(records).frame
    numbers = frame.with_columns(pl.col(name).cast(pl.Enum(values)).to_physical() for name, values in codes.items())
    matrix = numbers.cast(pl.Float32).fill_null(float("nan")).to_numpy()
    return [row.tobytes() for row in np.ascontiguousarray(matrix, dtype="<f4")]


def encoded(schema: Schema, encoding: str, codes: Mapping[str, Sequence[str]] | None = None) -> Schema:
    """The same schema for records of another encoding."""
    table = {"format": encoding, "codes": dict(codes or {})}
    return Schema.from_mapping(schema.model_dump() | {"encoding": table}, "benchmark")


def avro_schema(schema: Schema) -> dict[str, Any]:
    """A record of the features: double and string."""
    kinds = {"numeric": "double", "categorical": "string", "boolean": "boolean"}
    fields = [{"name": feature.name, "type": kinds[feature.kind]} for feature in schema.features]
    return {"type": "record", "name": "Row", "fields": fields}


def _as_avro(rows: Sequence[dict[str, Any]], schema: Schema) -> list[bytes]:
    import fastavro

    parsed = fastavro.parse_schema(avro_schema(schema))
    values = []
    for row in rows:
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, parsed, row)
        values.append(PREFIX + stream.getvalue())
    return values


def file_descriptor(schema: Schema) -> Any:
    """A message of the same fields."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

    kinds = {
        "numeric": FieldDescriptorProto.TYPE_DOUBLE,
        "categorical": FieldDescriptorProto.TYPE_STRING,
        "boolean": FieldDescriptorProto.TYPE_BOOL,
    }
    file = FileDescriptorProto(name="row.proto", syntax="proto3")
    message = file.message_type.add(name="Row")
    for number, feature in enumerate(schema.features, 1):
        message.field.add(name=feature.name, number=number, type=kinds[feature.kind], label=1)
    return file


def _as_protobuf(rows: Sequence[dict[str, Any]], schema: Schema) -> list[bytes]:
    from google.protobuf.message_factory import GetMessages

    message = GetMessages([file_descriptor(schema)])["Row"]
    return [PREFIX + b"\0" + message(**row).SerializeToString() for row in rows]


def measure(written: Mapping[str, list[bytes]], schema: Schema, repetitions: int) -> dict[str, float]:
    """Microseconds of CPU a record by encoding."""
    import fastavro

    with SchemaRegistryServer() as avro, SchemaRegistryServer() as protobuf:
        avro.register("rows", fastavro.schema.to_parsing_canonical_form(avro_schema(schema)))
        descriptor = base64.b64encode(file_descriptor(schema).SerializeToString()).decode()
        protobuf.register("rows", descriptor, "PROTOBUF")
        urls = {"avro": avro.url, "protobuf": protobuf.url}
        decoders = {
            encoding: decoder_for(
                Decoder(
                    packed_schema(written["json"], schema) if encoding == "float32" else encoded(schema, encoding),
                    2**20,
                ),
                Settings.model_validate({"schema_registry_url": urls.get(encoding)}),
            )
            for encoding in written
        }
        batches = {encoding: _batches(values) for encoding, values in written.items()}
        _check(decoders, batches)
        costs: dict[str, list[float]] = {encoding: [] for encoding in written}
        for _ in range(repetitions):
            for encoding, decoder in decoders.items():
                costs[encoding].append(_cost(decoder, batches[encoding]))
    return {encoding: statistics.median(runs) for encoding, runs in costs.items()}


def _batches(values: Sequence[bytes]) -> list[RawValues]:
    """As the daemon has them: side by side in one buffer."""
    n_rows: int = Settings.model_fields["max_rows"].default
    return [RawValues.of(values[start : start + n_rows]) for start in range(0, len(values), n_rows)]


def _check(decoders: Mapping[str, RecordDecoder], batches: Mapping[str, Sequence[RawValues]]) -> None:
    """Every encoding must give the same rows, packed ones to single precision; it also asks for the schemas."""
    expected = decoders["json"].decode(batches["json"][0]).frame
    for encoding, decoder in decoders.items():
        found = decoder.decode(batches[encoding][0]).frame
        same = expected.with_columns(pl.col(pl.Float64).cast(pl.Float32).cast(pl.Float64))
        if not found.equals(same if encoding == "float32" else expected):
            raise RuntimeError(f"{encoding} records are decoded to other rows than JSON records")


def _cost(decoder: RecordDecoder, batches: Sequence[RawValues]) -> float:
    started = time.process_time()
    for batch in batches:
        decoder.decode(batch)
    return (time.process_time() - started) / sum(map(len, batches)) * 1e6


if __name__ == "__main__":
    sys.exit(main())
