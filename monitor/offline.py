"""`ganwatch score FILE`: the daemon's scoring path over a file, with the same results bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from monitor.alerting.alert import severity_of
from monitor.champion import load_champion
from monitor.errors import ConfigError
from monitor.model.attribution import Attribution
from monitor.model.bundle import Bundle
from monitor.model.calibration import tie_breakers
from monitor.model.decision import decide, explain_no_flags
from monitor.model.detection import detect, explain
from monitor.model.tables import read_features, read_sample
from monitor.settings import Settings

PLACE = ("topic", "partition", "offset")
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class FileScores:
    """Scores of every row of a file.

    Attributes:
        file: which.
        bundle: the model that scored.
        threshold: least score that is flagged.
        frame: one row a record: `row` (from 0) or the record's place, raw_score, p_value, score, flagged.
        top: attributions of the highest-scoring rows, by their position in `frame`, highest first.
        nothing_flagged_because: why no row can be flagged, whatever it holds; None where one can.
    """

    file: Path
    bundle: Bundle
    threshold: float
    frame: pl.DataFrame
    top: dict[int, list[Attribution]]
    nothing_flagged_because: str | None


def score_file(file: Path, settings: Settings, *, top: int = 10) -> FileScores:
    """Scores all rows.

    Args:
        file: CSV, Parquet or JSON lines.
        settings: registry, schema and decision.
        top: how many of the highest scores to explain.

    Raises:
        ConfigError: the file does not fit the schema.
        BundleError: no usable model.
    """
    bundle = load_champion(settings)
    places = [column for column in PLACE if column in read_sample(file, 1).columns]
    whole = read_features(file, bundle.schema, places)
    frame = whole.select(bundle.schema.feature_names)
    breakers = row_tie_breakers(bundle, whole)
    parts = [
        detect(bundle, part, breakers[start : start + part.height])
        for start, part in zip(range(0, frame.height, _ROWS_AT_ONCE), frame.iter_slices(_ROWS_AT_ONCE), strict=True)
    ]
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in ("raw_score", "p_value", "score")
    }
    decision = decide(settings, bundle.calibration, **columns)
    scores = _scores_frame(whole, columns | {"flagged": decision.flagged})
    explained = _explain_top(bundle, frame, scores, top, settings.attribution_top_k)
    silence = explain_no_flags(settings, bundle.calibration)
    return FileScores(file, bundle, decision.threshold, scores, explained, silence)


def row_tie_breakers(bundle: Bundle, frame: pl.DataFrame) -> NDArray[np.float64]:
    """float64 (n,): from topic, partition and offset where the file has them, else from the row number."""
    if not set(PLACE) <= set(frame.columns):
        return tie_breakers(bundle.sha256, "", 0, np.arange(frame.height, dtype=np.int64))
    breakers = np.zeros(frame.height)
    for (topic, partition), rows in _places(frame).with_row_index("row").group_by(["topic", "partition"]):
        offsets = rows.get_column("offset").to_numpy()
        breakers[rows.get_column("row").to_numpy()] = tie_breakers(
            bundle.sha256, str(topic), int(str(partition)), offsets
        )
    return breakers


def _places(frame: pl.DataFrame) -> pl.DataFrame:
    """Where each record stands in Kafka: topic (String), partition and offset (Int64).

    Raises:
        ConfigError: a value is missing or no whole number.
    """
    kinds = zip(PLACE, (pl.String, pl.Int64, pl.Int64), strict=True)
    places = frame.select(pl.col(name).cast(kind, strict=False) for name, kind in kinds)
    broken = places.select(pl.any_horizontal(pl.all().is_null())).to_series()
    if broken.any():
        row = broken.arg_max() or 0
        raise ConfigError(
            "columns topic, partition, offset",
            f"row {row + 1} holds {frame.select(*PLACE).row(row)}, which is no place in Kafka; fill in all three or leave one out",
        )
    return places


def _scores_frame(whole: pl.DataFrame, columns: Mapping[str, NDArray[Any]]) -> pl.DataFrame:
    place = [whole.get_column(column) for column in PLACE if column in whole.columns]
    return pl.DataFrame(columns).with_row_index("row").select("row", *place, *columns)


def _explain_top(
    bundle: Bundle, frame: pl.DataFrame, scores: pl.DataFrame, top: int, top_k: int
) -> dict[int, list[Attribution]]:
    # Beyond the rows that calibrate all may have the same p-value: the raw score tells them apart.
    score, raw_score = (scores.get_column(name).to_numpy() for name in ("score", "raw_score"))
    order = np.lexsort((-np.nan_to_num(raw_score, nan=np.inf), -score))[:top].astype(np.intp)
    if not len(order):
        return {}
    rows = frame[order]
    detections = detect(bundle, rows, np.zeros(len(order)))
    return dict(zip(order.tolist(), explain(bundle, rows, detections, np.arange(len(order)), top_k), strict=True))


def print_scores(scores: FileScores, *, out: Path | None, as_json: bool) -> None:
    """Shows a summary and the highest scores; writes all rows to `out`."""
    if out is not None:
        write_scores(scores.frame, out)
    if as_json:
        print(msgspec.json.encode(_summary(scores)).decode())
        return
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)  # values are shown as they are
    flagged = int(scores.frame.get_column("flagged").sum())
    console.print(
        f"{scores.file}: {scores.frame.height} rows, {flagged} flagged ({flagged / scores.frame.height:.3%}) "
        f"at score >= {scores.threshold:.1f}, "
        f"model {scores.bundle.manifest.model} {scores.bundle.version}"
    )
    if scores.nothing_flagged_because is not None:
        console.print(scores.nothing_flagged_because)
    if scores.top:
        console.print(_table(scores))
    if out is not None:
        console.print(f"all scores: {out}")


def _summary(scores: FileScores) -> dict[str, object]:
    flagged = int(scores.frame.get_column("flagged").sum())
    rows = scores.frame.get_column("row")
    return {
        "file": str(scores.file),
        "rows": scores.frame.height,
        "flagged": flagged,
        "threshold": scores.threshold,
        "nothing_flagged_because": scores.nothing_flagged_because,
        "model": {
            "name": scores.bundle.manifest.model,
            "version": scores.bundle.version,
            "sha256": scores.bundle.sha256,
        },
        "top": [
            {"row": rows[position], **scores.frame.row(position, named=True), "attribution": attribution}
            for position, attribution in scores.top.items()
        ],
    }


def _table(scores: FileScores) -> Table:
    table = Table("row (from 0)", "score", "p", "severity", "why (value, expected)", title="highest scores")
    for position, attributions in scores.top.items():
        row = scores.frame.row(position, named=True)
        why = "; ".join(map(_reason, attributions[:3]))
        style = "bold" if row["flagged"] else "dim"
        table.add_row(
            str(row["row"]), f"{row['score']:.1f}", f"{row['p_value']:.1e}", severity_of(row["score"]), why, style=style
        )
    return table


def _reason(attribution: Attribution) -> str:
    """A feature's part in the score; a level that was doubted and yet the likeliest is not set against itself."""
    name, value, expected = attribution.feature, attribution.value, attribution.expected
    instead = "" if value == expected else f" ({_brief(expected)})"
    return f"{name} {_brief(value)}{instead} {attribution.share:.0%}"


def _brief(value: object) -> str:
    """A value as people read it; programs get all digits by `--json`."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def write_scores(frame: pl.DataFrame, out: Path) -> None:
    """Writes the scores of all rows.

    Raises:
        ConfigError: unknown suffix, or the folder cannot be written to.
    """
    writers: dict[str, Callable[[Path], object]] = {
        ".csv": frame.write_csv,
        ".parquet": frame.write_parquet,
        ".jsonl": frame.write_ndjson,
        ".ndjson": frame.write_ndjson,
    }
    if out.suffix not in writers:
        raise ConfigError(f"--out {out}", f"unknown suffix; use one of {', '.join(writers)}")
    try:
        writers[out.suffix](out)
    except OSError as error:
        raise ConfigError(f"--out {out}", f"cannot be written: {error.strerror or error}") from error
