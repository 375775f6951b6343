"""What is fuzzed. A target takes the bytes of one input; whatever it raises is a finding.

Errors of our own are no findings: a record that cannot be read has a reason, a file that cannot be read a ConfigError or
a BundleError. Each target also checks what is promised about the inputs that are accepted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from monitor.errors import BundleError, ConfigError, InvalidRecord
from monitor.model.bundle import Bundle, load_bundle, read_manifest, write_bundle
from monitor.model.calibration import tie_breakers
from monitor.model.decode import Decoder
from monitor.model.detection import detect
from monitor.model.features_toml import write_features_toml
from monitor.model.inference import infer_schema
from monitor.model.json_records import frame_from_records
from monitor.model.registry import Registry
from monitor.model.schema import Schema
from monitor.model.tables import read_features, read_sample
from monitor.settings import Settings, load_settings
from tests import machines
from tests.fuzz import corpus
from tests.monitor.raw_records import KINDS, by_json

BATCH_RECORDS = 64
MAX_RECORD_BYTES = 2000
MAX_DETAIL = 200
ROWS_OF_A_SAMPLE = 1000


@dataclass(frozen=True)
class Target:
    """Something that reads the bytes of others.

    Attributes:
        start: prepares it and returns what takes one input.
        seeds: the inputs to begin with.
        tokens: pieces worth inserting.
        max_bytes: the longest input.
    """

    start: Callable[[], Callable[[bytes], None]]
    seeds: Callable[[], Sequence[bytes]]
    tokens: Sequence[bytes] = ()
    max_bytes: int = 4096


def records_schema() -> Schema:
    """Features of every kind, plain and nested."""
    features = [{"name": name, "kind": kind} for name, kind in KINDS.items()]
    return Schema.from_mapping({"name": "fuzz", "features": features}, "tests")


class Decoding:
    """Judges a record alone, and sixty-four of them once more as one batch with sound records between them."""

    def __init__(self) -> None:
        levels = {"c": ("a", "5", "true", "[1]", "1e22"), "n.k": ()}
        self._decoder = Decoder(records_schema(), MAX_RECORD_BYTES, levels)
        self._sound: list[bytes | None] = [b'{"v":%d,"c":"zz%d","n":{"k":"a"}}' % (row, row) for row in range(8)]
        self._records: list[bytes | None] = []
        self._verdicts: list[Any] = []

    def __call__(self, data: bytes) -> None:
        """Takes one record."""
        (verdict,) = self._judge([data])
        if len(verdict) == len(KINDS):
            assert verdict == _by_json(data, verdict), "values differ from those of the json module"
        self._records.append(data)
        self._verdicts.append(verdict)
        if len(self._records) == BATCH_RECORDS:
            self._judge_together()

    def _judge_together(self) -> None:
        sound = [(float(row), f"zz{row}", None, None, "a") for row in range(8)]
        records, verdicts = (
            self._records + self._sound + [None],
            self._verdicts + sound + [("empty", "no value (null)")],
        )
        order = np.random.default_rng(len(self._records[0] or b"")).permutation(len(records)).tolist()
        self._records, self._verdicts = [], []
        found = self._judge([records[place] for place in order])
        for place, verdict in zip(order, found, strict=True):
            assert verdict == verdicts[place], f"in a batch {verdict}, alone {verdicts[place]}: {records[place]!r}"

    def _judge(self, records: list[bytes | None]) -> list[Any]:
        """Per record its values, or its reason and detail."""
        decoded = self._decoder.decode(records)
        good = dict(zip(decoded.rows, decoded.frame.rows(), strict=True))
        bad = {row: (error.reason, error.detail) for row, error in decoded.invalid}
        assert sorted([*good, *bad]) == list(range(len(records)))
        assert all(reason in InvalidRecord.REASONS and len(detail) <= MAX_DETAIL for reason, detail in bad.values())
        return [good[row] if row in good else bad[row] for row in range(len(records))]


def _by_json(record: bytes, verdict: Any) -> Any:
    """What Python's json module makes of a record; the verdict itself where it nests too deep for that module."""
    try:
        return by_json(record)
    except RecursionError:
        return verdict


class Scoring:
    """Scores thirty-two fuzzed records between sound ones: these keep their offsets, scores and p-values to the bit."""

    def __init__(self) -> None:
        self._bundle = committed_bundle()
        self._decoder = self._bundle.decoder(MAX_RECORD_BYTES)
        self._sound = machines.as_json(machines.readings(32, seed=5, anomalies=4))
        self._expected = self._scores(self._sound, np.arange(0, 64, 2))
        self._records: list[bytes] = []

    def __call__(self, data: bytes) -> None:
        """Takes one record."""
        decoded = self._decoder.decode([data])
        detections = detect(self._bundle, decoded.frame, np.zeros(decoded.frame.height))
        assert ((detections.p_value > 0) & (detections.p_value <= 1)).all()
        assert ((detections.score >= 0) & (detections.score <= 100)).all()
        self._records.append(data)
        if len(self._records) < len(self._sound):
            return
        mixed = [record for pair in zip(self._sound, self._records, strict=True) for record in pair]
        self._records = []
        found = self._scores(mixed, np.arange(64))
        assert {offset: found.get(offset) for offset in self._expected} == self._expected

    def _scores(self, records: Sequence[bytes], offsets: np.ndarray) -> dict[int, tuple[bytes, bytes]]:
        """Bits of p-value and score by offset."""
        decoded = self._decoder.decode(records)
        kept = offsets[list(decoded.rows)]
        detections = detect(self._bundle, decoded.frame, tie_breakers(self._bundle.sha256, "features", 0, kept))
        columns = (kept.tolist(), detections.p_value, detections.score)
        return {offset: (p.tobytes(), score.tobytes()) for offset, p, score in zip(*columns, strict=True)}


def sampling() -> Callable[[bytes], None]:
    """Records of a topic without a schema, the schema inferred from them, and its `features.toml`."""
    path = _scratch("features.toml")

    def check(data: bytes) -> None:
        records = data.split(b"\n")
        frame = frame_from_records(records)
        assert frame.height <= len(records)
        try:
            inference = infer_schema(frame, "fuzz", timezone="Europe/Berlin")
        except ConfigError:
            return
        path.write_text(write_features_toml(inference, "tests"), encoding="utf-8")
        assert Schema.load(path) == inference.schema

    return check


def file(suffix: str) -> Callable[[], Callable[[bytes], None]]:
    """A data file of that suffix: as a sample, and as the features of a schema."""

    def start() -> Callable[[bytes], None]:
        path, schema = _scratch(f"file{suffix}"), records_schema()

        def check(data: bytes) -> None:
            path.write_bytes(data)
            _refusable(lambda: infer_schema(read_sample(path, ROWS_OF_A_SAMPLE), "fuzz"), ConfigError)
            _refusable(lambda: read_features(path, schema, ("label",)), ConfigError)

        return check

    return start


def features_toml() -> Callable[[bytes], None]:
    """A `features.toml`; what is accepted gives a decoder that works."""
    path = _scratch("features.toml")

    def check(data: bytes) -> None:
        path.write_bytes(data)
        schema = _refusable(lambda: Schema.load(path), ConfigError)
        if schema is not None:
            decoded = Decoder(schema, MAX_RECORD_BYTES).decode([b"{}", b"{", None])
            assert tuple(decoded.frame.columns) == schema.feature_names
            assert len(decoded.invalid) >= 2

    return check


def settings() -> Callable[[bytes], None]:
    """A settings file, a zero byte, and lines of the environment."""
    path = _scratch("ganwatch.toml")

    def check(data: bytes) -> None:
        document, _, environment = data.partition(b"\0")
        path.write_bytes(document)
        pairs = (line.partition("=") for line in environment.decode(errors="surrogateescape").splitlines())
        env = {f"GANWATCH_{name}": value for name, _, value in pairs if name}
        found = _refusable(lambda: load_settings(path, env), ConfigError)
        assert found is None or isinstance(found, Settings)

    return check


def bundle() -> Callable[[bytes], None]:
    """One file of a bundle, or one array of it, with digests that are right for it: as someone malicious writes it."""
    source, scratch = committed_bundle(), _scratch("bundle")

    def check(data: bytes) -> None:
        if not data:
            return
        part = corpus.BUNDLE_PARTS[data[0] % len(corpus.BUNDLE_PARTS)]
        contents = corpus.bundle_contents(source.path, part, data[1:])
        manifest, _ = read_manifest(source.path)
        write_bundle(scratch, manifest, contents)
        if part.file == "manifest.json":
            (scratch / part.file).write_bytes(contents[part.file])
        try:
            _refusable(lambda: load_bundle(scratch), BundleError)
        finally:
            for name in (*contents, "manifest.json"):
                (scratch / name).unlink(missing_ok=True)
            scratch.rmdir()

    return check


def planted() -> Callable[[bytes], None]:
    """A defect that only coverage finds, to prove that the fuzzer finds one; never part of a campaign."""

    def check(data: bytes) -> None:
        record = _refusable(lambda: msgspec.json.decode(data), msgspec.DecodeError, UnicodeDecodeError)
        if isinstance(record, list):
            raise KeyError("planted")

    return check


def committed_bundle() -> Bundle:
    """The model of `tests.machines`."""
    registry = Registry(str(machines.REGISTRY))
    return load_bundle(registry.fetch("machines", registry.champion("machines")))


def _scratch(name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix="ganwatch-fuzz-")) / name


def _refusable(read: Callable[[], Any], *refusals: type[Exception]) -> Any:
    """The result, or None where it is refused as it may be."""
    try:
        return read()
    except refusals:
        return None


TARGETS: dict[str, Target] = {
    "decoder": Target(Decoding, corpus.records, corpus.JSON_TOKENS),
    "scores": Target(Scoring, corpus.readings, corpus.JSON_TOKENS),
    "records": Target(sampling, corpus.samples, corpus.JSON_TOKENS),
    "json_file": Target(file(".jsonl"), corpus.samples, corpus.JSON_TOKENS),
    "gzip_file": Target(file(".jsonl.gz"), corpus.gzipped, corpus.GZIP_TOKENS),
    "csv_file": Target(file(".csv"), corpus.csv_files, corpus.CSV_TOKENS),
    "schema": Target(features_toml, corpus.schemas, corpus.TOML_TOKENS),
    "settings": Target(settings, corpus.settings_files, corpus.TOML_TOKENS),
    "bundle": Target(bundle, corpus.bundle_parts, corpus.NPY_TOKENS, max_bytes=65_536),
}
PLANTED = {"planted": Target(planted, corpus.records, corpus.JSON_TOKENS)}
