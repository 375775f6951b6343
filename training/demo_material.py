"""What a demo learns from and streams: the simulated payments, a user's own labelled file, or a public data set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.errors import ConfigError
from monitor.model.features_toml import write_features_toml
from monitor.model.inference import infer_schema
from monitor.model.schema import Schema
from monitor.model.tables import read_sample
from training.labels import parse_labels
from training.payment_stream import FEATURES_TOML, NORMAL, SimulationConfig, encode_records, simulate_payments

DATASETS = ("kddcup99",)
TRAIN_RECORDS = 30_000
LEAST_TRAIN_ROWS = 100
_ALL_ROWS = 2**62


@dataclass(frozen=True)
class Material:
    """Rows to learn from and rows to stream.

    Attributes:
        name: for people.
        features_toml: text of the schema.
        train: rows that are all normal, with the bookkeeping fields of the schema.
        stream: rows to publish, in order.
        kind: text (n_stream,): NORMAL, or what kind of anomaly a row is.
    """

    name: str
    features_toml: str
    train: pl.DataFrame
    stream: pl.DataFrame
    kind: NDArray[np.str_]

    @property
    def label(self) -> NDArray[np.bool_]:
        """Bool (n_stream,), true = anomaly."""
        return np.asarray(self.kind != NORMAL)


def simulated_payments(records: int, *, anomaly_share: float, seed: int) -> Material:
    """Honest payments to learn from; the days after them, with fraud, to stream."""
    honest = SimulationConfig(seed=seed, anomaly_share=0.0)
    train = simulate_payments(honest, TRAIN_RECORDS)
    first_day = -(-TRAIN_RECORDS // honest.payments_per_day)
    stream = simulate_payments(SimulationConfig(seed=seed, anomaly_share=anomaly_share), records, first_day)
    return Material("simulated card payments", FEATURES_TOML, train.table, stream.table, stream.kind)


def labelled_file(path: Path, label: str, records: int, *, seed: int) -> Material:
    """Half of a file to learn from (the rows labelled normal), rows of the other half to stream.

    Raises:
        ConfigError: the file cannot be read, lacks the column, or holds too few normal rows.
    """
    frame = read_sample(path, _ALL_ROWS)
    if label not in frame.columns:
        raise ConfigError("--label", f"{path} has no column {label!r}; it has {', '.join(frame.columns)}")
    return _halve(frame, label, path.name, records, seed)


def public_dataset(name: str, records: int, *, seed: int) -> Material:
    """A set that scikit-learn downloads; `kddcup99` is its subset SA: normal connections and some 3 % attacks.

    Raises:
        ConfigError: there is no such set here, or it cannot be fetched.
    """
    if name not in DATASETS:
        raise ConfigError("--dataset", f"no data set {name!r}; there is {', '.join(DATASETS)}")
    from sklearn.datasets import fetch_kddcup99

    try:
        fetched = fetch_kddcup99(subset="SA", percent10=True, random_state=seed)
    except OSError as error:  # URLError and time-outs are OSErrors
        raise ConfigError(
            f"--dataset {name}", f"cannot be fetched ({error}); it needs a network, or use --data FILE --label COLUMN"
        ) from error
    columns = {field: _plain(fetched.data[:, place]) for place, field in enumerate(fetched.feature_names)}
    return _halve(pl.DataFrame(columns | {"label": _plain(fetched.target)}), "label", name, records, seed)


def _plain(values: NDArray[np.object_]) -> pl.Series:
    """A column of Python objects as text (from bytes) or numbers."""
    if isinstance(values[0], bytes):
        return pl.Series([value.decode().removesuffix(".") for value in values])
    return pl.Series(values.tolist(), strict=False)


def _halve(frame: pl.DataFrame, label: str, name: str, records: int, seed: int) -> Material:
    is_anomaly = parse_labels(frame.get_column(label))
    kind = np.where(is_anomaly, frame.get_column(label).cast(pl.String).fill_null("").to_numpy(), NORMAL)
    table = frame.drop(label)
    inference = infer_schema(table, re.sub(r"[^A-Za-z0-9_-]+", "-", Path(name).stem).strip("-") or "demo")
    table = table.select(_carried(inference.schema, table))
    order = np.random.default_rng(seed).permutation(len(frame))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    train, streamed = np.sort(first[~is_anomaly[first]]), np.sort(second[:records])
    if len(train) < LEAST_TRAIN_ROWS:
        problem = f"{len(train)} normal rows in one half are too few to learn from; {LEAST_TRAIN_ROWS} are needed"
        raise ConfigError(f"{name}, column {label!r}", problem)
    text = write_features_toml(inference, name)
    return Material(name, text, table[train], table[streamed], kind[streamed].astype(np.str_))


def _carried(schema: Schema, table: pl.DataFrame) -> list[str]:
    """The columns that records carry: features, and the bookkeeping fields that JSON has a type for."""
    stamp = schema.timestamp.field if schema.timestamp else None
    bookkeeping = [name for name in (schema.id, schema.key, stamp) if name is not None]
    return [
        name
        for name in dict.fromkeys((*bookkeeping, *schema.feature_names))
        if name in schema.feature_names or table.schema[name].is_numeric() or table.schema[name] == pl.String
    ]


def write_material(material: Material, folder: Path) -> Schema:
    """Writes features.toml, train.jsonl and stream.jsonl (with the column `is_anomaly`) for later use by hand.

    Raises:
        ConfigError: the folder cannot be written, or the schema is not one.
    """
    labelled = material.stream.with_columns(pl.Series("is_anomaly", material.label))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "features.toml").write_text(material.features_toml, encoding="utf-8")
        for name, table in (("train.jsonl", material.train), ("stream.jsonl", labelled)):
            (folder / name).write_bytes(b"".join(record + b"\n" for record in encode_records(table)))
    except OSError as error:
        raise ConfigError(f"--workdir {folder}", f"cannot be written: {error.strerror}") from error
    return Schema.load(folder / "features.toml")
