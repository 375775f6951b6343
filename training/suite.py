"""Synthetic anomalies made from normal rows, and the frozen reference that every later model is held against.

references/<model>/<anchor>.parquet   normal rows, anomalies made from them, and rows to be learned again; written once

Three kinds of anomaly, none of which needs a label: `swapped` (some features belong to another row, so that they no longer fit
together), `shifted` (a number moved away from its row by several spreads of its column) and `foreign` (a level that never
occurs, or a number far outside of all that do). In an array it is some of its cells.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.errors import BundleError
from monitor.model.schema import Schema
from monitor.model.store import Store
from training.array_anomalies import replace_cells, shift_cells, swap_cells

NORMAL = "normal"
REPLAY = "replay"
KINDS = ("swapped", "shifted", "foreign")
_PART = "ganwatch part"

REFERENCE_ROWS = 5_000
REFERENCE_SHARE = 0.2
REPLAY_ROWS = 20_000
REPLAY_SHARE_OF_HISTORY = 0.3
ANOMALY_ROWS = 3_000
_SWAPPED_SHARE = (0.1, 0.3)
_SHIFT_SPREADS = (2.0, 6.0)
_FOREIGN_LEVEL = "never seen before"


@dataclass(frozen=True)
class Suite:
    """Normal rows and anomalies.

    Attributes:
        normals: features, one row a normal record.
        anomalies: the same columns.
        kinds: for each anomaly one of `KINDS`.
    """

    normals: pl.DataFrame
    anomalies: pl.DataFrame
    kinds: NDArray[np.str_]

    @property
    def rows(self) -> pl.DataFrame:
        """The normal rows, then the anomalies."""
        return pl.concat([self.normals, self.anomalies])

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Bool (n,), true = anomaly, in the order of `rows`."""
        return np.repeat([False, True], [self.normals.height, self.anomalies.height])


@dataclass(frozen=True)
class Reference:
    """What stays the same while models change.

    Attributes:
        suite: held out from training when it was frozen.
        replay: normal rows of the same time, learned again in every retraining so that old knowledge is not lost.
    """

    suite: Suite
    replay: pl.DataFrame


def make_suite(normals: pl.DataFrame, schema: Schema, rng: np.random.Generator) -> Suite:
    """Anomalies from normal rows, about a third of each kind.

    Args:
        normals: at least two rows.
        schema: says which features are numbers.
        rng: decides everything random.
    """
    per_kind = -(-min(ANOMALY_ROWS, normals.height) // len(KINDS))
    made = [
        make(normals[_drawn(normals, per_kind, rng)], normals, schema, rng) for make in (_swapped, _shifted, _foreign)
    ]
    return Suite(normals=normals, anomalies=pl.concat(made), kinds=np.repeat(KINDS, per_kind))


def _drawn(frame: pl.DataFrame, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    return rng.choice(frame.height, n, replace=n > frame.height)


def _swapped(rows: pl.DataFrame, normals: pl.DataFrame, schema: Schema, rng: np.random.Generator) -> pl.DataFrame:
    """A tenth to three tenths of the features, two at least where there are four, come from another row."""
    least = 2 if len(schema.features) >= 4 else 1
    share = rng.uniform(*_SWAPPED_SHARE, rows.height)
    order = np.argsort(rng.random((rows.height, len(schema.features))), axis=1).argsort(axis=1)
    swapped = order < np.maximum(least, np.round(share * len(schema.features)))[:, None]
    donors = normals[_drawn(normals, rows.height, rng)]
    columns = []
    for place, feature in enumerate(schema.features):
        theirs, own = donors[feature.name], rows[feature.name]
        if feature.kind == "array":
            theirs = swap_cells(own, theirs, share, rng)
        columns.append(_chosen(swapped[:, place], theirs, own))
    return pl.DataFrame(columns)


def _shifted(rows: pl.DataFrame, normals: pl.DataFrame, schema: Schema, rng: np.random.Generator) -> pl.DataFrame:
    """One number, or a stretch of one array, moves by two to six spreads of its column; without any, as `_swapped`."""
    numeric = [feature.name for feature in schema.features if feature.kind in ("numeric", "array")]
    if not numeric:
        return _swapped(rows, normals, schema, rng)
    chosen = rng.integers(0, len(numeric), rows.height)
    distance = rng.uniform(*_SHIFT_SPREADS, rows.height) * rng.choice([-1.0, 1.0], rows.height)
    columns = []
    for place, name in enumerate(numeric):
        own, far = rows[name], distance * _spread(normals[name])
        is_array = isinstance(own.dtype, pl.Array)
        moved = shift_cells(own, far, rng) if is_array else own.fill_null(normals[name].median()) + far
        columns.append(_chosen(chosen == place, moved, own))
    return rows.with_columns(columns)


def _foreign(rows: pl.DataFrame, normals: pl.DataFrame, schema: Schema, rng: np.random.Generator) -> pl.DataFrame:
    """One feature takes a value that no normal row has: a new level, a number beyond the range, the rarer truth value."""
    chosen = rng.integers(0, len(schema.features), rows.height)
    columns = []
    for place, feature in enumerate(schema.features):
        values = normals[feature.name]
        foreign: pl.Series
        if feature.kind == "categorical":
            foreign = pl.Series([_FOREIGN_LEVEL] * rows.height)
        elif feature.kind == "boolean":
            foreign = ~rows[feature.name].fill_null(value=False)
        else:
            top, width = _number(_numbers(values).max()), 10.0 * _spread(values)
            number = top + width * rng.uniform(0.5, 1.0, rows.height)
            is_array = feature.kind == "array"
            foreign = replace_cells(rows[feature.name], number, rng) if is_array else pl.Series(number)
        columns.append(_chosen(chosen == place, foreign, rows[feature.name]))
    return pl.DataFrame(columns)


def _chosen(where: NDArray[np.bool_], changed: pl.Series, kept: pl.Series) -> pl.Series:
    return pl.select(pl.when(pl.Series(where)).then(changed).otherwise(kept).alias(kept.name)).to_series()


def _numbers(values: pl.Series) -> pl.Series:
    return values.explode() if isinstance(values.dtype, pl.Array) else values


def _spread(values: pl.Series) -> float:
    """Standard deviation of a column, or of all cells of an array; 1 for a constant one."""
    return _number(_numbers(values).std()) or 1.0


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def new_reference(frame: pl.DataFrame, schema: Schema, rng: np.random.Generator) -> Reference:
    """Draws a reference from normal rows. The rows of its suite must not be trained on: see `without_copies`."""
    order = rng.permutation(frame.height)
    n_normals = min(REFERENCE_ROWS, round(REFERENCE_SHARE * frame.height))
    n_replay = min(REPLAY_ROWS, round(REPLAY_SHARE_OF_HISTORY * frame.height))
    suite = make_suite(frame[order[:n_normals]], schema, rng)
    return Reference(suite=suite, replay=frame[order[n_normals : n_normals + n_replay]])


def without_copies(frame: pl.DataFrame, others: pl.DataFrame) -> NDArray[np.intp]:
    """Positions of the rows that remain when for each row of `others` one equal row of `frame` is taken away.

    Taking away all equal ones would remove what is frequent, and with it what is most normal.
    """
    mine, theirs = (_numbered_copies(rows) for rows in (frame, others))
    return mine.with_row_index("row").join(theirs, on=["hash", "copy"], how="anti").get_column("row").to_numpy()


def _numbered_copies(frame: pl.DataFrame) -> pl.DataFrame:
    hashed = pl.DataFrame({"hash": frame.hash_rows(seed=0)})
    return hashed.with_columns(pl.int_range(pl.len()).over("hash").alias("copy"))


def freeze_reference(store: Store, model: str, anchor: str, reference: Reference) -> None:
    """Writes the reference of an anchor; one that exists stays as it is."""
    store.create(_path(model, anchor), _to_parquet(reference))


def read_reference(store: Store, model: str, anchor: str, schema: Schema) -> Reference | None:
    """The reference of an anchor; None when none was frozen yet.

    Raises:
        BundleError: it is damaged.
    """
    content = store.read(_path(model, anchor))
    if content is None:
        return None
    try:
        frame = pl.read_parquet(io.BytesIO(content)).select(_PART, *schema.feature_names)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BundleError(f"{store.url}/{_path(model, anchor)}", f"cannot be understood: {error}") from error
    part = frame.get_column(_PART)
    rows = frame.drop(_PART)
    anomalous = part.is_in(KINDS)
    suite = Suite(
        rows.filter(part == NORMAL), rows.filter(anomalous), part.filter(anomalous).to_numpy().astype(np.str_)
    )
    return Reference(suite=suite, replay=rows.filter(part == REPLAY))


def _path(model: str, anchor: str) -> str:
    return f"references/{model}/{anchor}.parquet"


def _to_parquet(reference: Reference) -> bytes:
    suite = reference.suite
    parts = [
        suite.normals.with_columns(pl.lit(NORMAL).alias(_PART)),
        suite.anomalies.with_columns(pl.Series(_PART, suite.kinds, dtype=pl.String)),
        reference.replay.with_columns(pl.lit(REPLAY).alias(_PART)),
    ]
    buffer = io.BytesIO()
    pl.concat(parts).write_parquet(buffer)
    return buffer.getvalue()
