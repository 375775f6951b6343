"""Where the archive's files lie, what is in them, and which of them go when there are too many.

<archive>/<model>/<schema>/sample/<first>-<last>-<seen>-<writer>.parquet    a uniform sample of all records of a stretch of time
<archive>/<model>/<schema>/flagged/…                                        of the flagged ones, for people to judge

`schema` is the beginning of the schema's fingerprint: rows of different schemas never mix. `first` and `last` are times in
milliseconds since 1970, `seen` is how many records the sample stands for. The sample holds flagged records in their natural
share: leaving them out would cut the tail off every calibration, and more of it with each retraining.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from monitor.errors import BundleError, ConfigError
from monitor.model.schema import Schema
from monitor.model.store import Store

Kind = Literal["sample", "flagged"]

# Columns beside the features.
TIME, TOPIC, PARTITION, OFFSET = "ganwatch_time", "ganwatch_topic", "ganwatch_partition", "ganwatch_offset"
RAW_SCORE, P_VALUE, SCORE = "ganwatch_raw_score", "ganwatch_p_value", "ganwatch_score"
MODEL, ALERT_ID = "ganwatch_model", "ganwatch_alert_id"
COLUMNS = {
    TIME: pl.Float64,  # seconds since 1970
    TOPIC: pl.String,
    PARTITION: pl.Int32,
    OFFSET: pl.Int64,
    RAW_SCORE: pl.Float32,
    P_VALUE: pl.Float64,
    SCORE: pl.Float64,
    MODEL: pl.String,  # version that scored
    ALERT_ID: pl.String,  # null where the record was not flagged
}
PLACE = (TOPIC, PARTITION, OFFSET)

_NAME = re.compile(r"(?P<first>[0-9]{13})-(?P<last>[0-9]{13})-(?P<seen>[0-9]+)-(?P<writer>[A-Za-z0-9]+)\.parquet")
# The newest strata are all kept; of the older ones as many as there is room for, evenly over their time.
RECENT_SHARE = 0.7


@dataclass(frozen=True)
class Stratum:
    """One file: a sample of a stretch of time.

    Attributes:
        path: in the archive.
        first: time of its first record, ms since 1970.
        last: of its last one.
        seen: records it stands for.
    """

    path: str
    first: int
    last: int
    seen: int


def folder_of(model: str, schema: Schema, kind: Kind) -> str:
    """Where files of a kind lie.

    Raises:
        ConfigError: a feature has the name of one of the archive's own columns.
    """
    clash = [name for name in schema.feature_names if name in COLUMNS]
    if clash:
        raise ConfigError("archive", f"features must not be called {', '.join(clash)}; rename them in features.toml")
    return f"{model}/{schema.fingerprint[:12]}/{kind}"


def path_of(folder: str, frame: pl.DataFrame, seen: int, writer: str) -> str:
    """The name of a file with these rows.

    Args:
        folder: of its kind.
        frame: at least one row.
        seen: records it stands for.
        writer: letters and digits, different for every file that could have the same name otherwise.
    """
    times = frame.get_column(TIME)
    first, last = (int(float(moment) * 1000) for moment in (times.min(), times.max()))  # type: ignore[arg-type]
    return f"{folder}/{max(0, first):013d}-{max(0, last):013d}-{seen}-{writer}.parquet"


def list_strata(store: Store, folder: str) -> list[Stratum]:
    """All files of a kind, oldest first; other files are overlooked."""
    found = []
    for path in store.files(folder):
        match = _NAME.fullmatch(path.rpartition("/")[2])
        if match:
            found.append(Stratum(path, int(match["first"]), int(match["last"]), int(match["seen"])))
    return sorted(found, key=lambda stratum: (stratum.first, stratum.path))


def to_parquet(frame: pl.DataFrame) -> bytes:
    """The content of a file."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def read_stratum(store: Store, stratum: Stratum, schema: Schema) -> pl.DataFrame | None:
    """The features and the archive's own columns; None when the file was removed meanwhile.

    Raises:
        BundleError: it is damaged.
    """
    content = store.read(stratum.path)
    if content is None:
        return None
    try:
        return pl.read_parquet(io.BytesIO(content)).select(*schema.feature_names, *COLUMNS)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"{store.url}/{stratum.path}", f"is not a sound archive file: {reason}") from error


def surplus(strata: Sequence[Stratum], *, most: int, keep_after: int) -> list[Stratum]:
    """The files that must go.

    Args:
        strata: all of a kind, oldest first.
        most: how many may stay.
        keep_after: those that ended before this time, ms since 1970, go in any case.
    """
    gone = [stratum for stratum in strata if stratum.last < keep_after]
    kept = [stratum for stratum in strata if stratum.last >= keep_after]
    n_recent = min(most, max(1, round(RECENT_SHARE * most)))
    n_older = max(0, len(kept) - n_recent)
    older, recent = kept[:n_older], kept[n_older:]
    while len(older) + len(recent) > most:
        gone.append(older.pop(_most_dispensable(older, recent[0].first)))
    return gone


def _most_dispensable(older: Sequence[Stratum], next_first: int) -> int:
    """Whose removal leaves the smallest gap in time. The oldest one begins the account and goes last."""
    starts = [stratum.first for stratum in older] + [next_first]
    gaps = [starts[place + 1] - starts[place - 1] for place in range(1, len(older))]
    return gaps.index(min(gaps)) + 1 if gaps else 0
