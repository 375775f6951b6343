"""Rows to learn from, and judged records, from the archive that the monitor writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.archive.layout import ALERT_ID, P_VALUE, PLACE, TIME, Kind, folder_of, list_strata, read_stratum
from monitor.archive.reservoir import sampling_keys
from monitor.errors import ConfigError
from monitor.model.schema import Schema
from monitor.model.store import Store
from training.feedback import Feedback
from training.history import History
from training.material import RetrainingData

_STRATUM, _KEY = "ganwatch_stratum", "ganwatch_key"
# A flagged record so improbable that among all rows not a tenth of one was to be expected is an outlier …
_OUTLIERS_EXPECTED = 0.1
# … unless so many of its stretch of time are that the world has changed, which must be learned.
MOST_OUTLIERS = 0.05


def read_archive(store: Store, model: str, schema: Schema, feedback: Feedback, *, max_rows: int) -> RetrainingData:
    """Reads the whole sample, which is bounded however long the stream was.

    Confirmed anomalies are left out, and so are flagged records that nobody judged and that are far beyond chance, as long as
    they are few of their stretch of time. Other flagged ones stay: without them the tail of every calibration were too short.
    Of the false alarms in the sample every second one is learned from; the others, and those beyond the sample, judge models.

    Args:
        store: of the archive.
        model: whose records.
        schema: theirs.
        feedback: what people said about alerts.
        max_rows: a uniform part of this size is taken when there are more.

    Raises:
        ConfigError: the archive holds nothing for this model and schema.
        BundleError: a file is damaged, or the archive cannot be reached.
    """
    sample = _read(store, model, schema, "sample")
    if sample is None:
        raise ConfigError(
            f"archive {store.url}",
            f"holds no records of model {model!r} with this schema; set `archive` for `ganwatch run`, or give --data",
        )
    sample = _smallest_keys(sample, max_rows)
    confirmed, outliers = _said(sample, feedback, anomaly=True), _outliers(sample, feedback)
    false_alarms = _said(sample, feedback, anomaly=False)
    judging = false_alarms & (false_alarms.cum_sum() % 2 == 0)
    kept = sample.filter(~(confirmed | outliers | judging)).sort(TIME, maintain_order=True)
    history = History(
        frame=kept.select(schema.feature_names),
        source=f"archive {store.url}",
        times=kept.get_column(TIME).to_numpy(),
        invalid=Counter(),
    )
    learned = set(sample.filter(false_alarms & ~judging).get_column(ALERT_ID))
    judges = {alert: right for alert, right in feedback.anomalies.items() if alert not in learned}
    labelled, labels = _labelled(store, model, schema, sample, judges)
    left_out = {
        "confirmed anomalies": int(confirmed.sum()),
        "outliers": int((outliers & ~confirmed).sum()),
        "false alarms to judge by": int(judging.sum()),
    }
    return RetrainingData(history, labelled, labels, left_out)


def _read(store: Store, model: str, schema: Schema, kind: Kind) -> pl.DataFrame | None:
    """All rows of a kind with the number of their stratum; each record once, however often it was delivered."""
    parts = [
        frame.with_columns(pl.lit(number, dtype=pl.Int64).alias(_STRATUM))
        for number, stratum in enumerate(list_strata(store, folder_of(model, schema, kind)))
        if (frame := read_stratum(store, stratum, schema)) is not None
    ]
    return pl.concat(parts).unique(PLACE, keep="first", maintain_order=True) if parts else None


def _smallest_keys(sample: pl.DataFrame, max_rows: int) -> pl.DataFrame:
    if sample.height <= max_rows:
        return sample
    keys = np.zeros(sample.height)
    numbered = sample.select(PLACE).with_row_index("row")
    for (topic, partition), rows in numbered.group_by(PLACE[:2]):
        offsets = rows.get_column(PLACE[2]).to_numpy()
        keys[rows.get_column("row").to_numpy()] = sampling_keys(str(topic), int(str(partition)), offsets)
    # Strata differ in how far their own keys reach, so it is the rank within the stratum that is compared.
    ranked = sample.with_columns(pl.Series(_KEY, keys)).with_columns(
        (pl.col(_KEY).rank("ordinal").over(_STRATUM) / pl.len().over(_STRATUM)).alias(_KEY)
    )
    chosen = ranked.get_column(_KEY).arg_sort()[:max_rows].sort()
    return sample[chosen]


def _said(sample: pl.DataFrame, feedback: Feedback, *, anomaly: bool) -> pl.Series:
    """Bool: people called it so."""
    alerts = [alert for alert, right in feedback.anomalies.items() if right is anomaly]
    return sample.get_column(ALERT_ID).is_in(alerts).fill_null(value=False)


def _outliers(sample: pl.DataFrame, feedback: Feedback) -> pl.Series:
    """Bool: far beyond chance, not judged, and few of their stratum."""
    extreme = sample.select(
        (
            pl.col(ALERT_ID).is_not_null()
            & (pl.col(P_VALUE) * pl.len() < _OUTLIERS_EXPECTED)
            & ~pl.col(ALERT_ID).is_in(list(feedback.anomalies)).fill_null(value=False)
        ).alias("extreme"),
        pl.col(_STRATUM),
    )
    return extreme.select(pl.col("extreme") & (pl.col("extreme").mean().over(_STRATUM) <= MOST_OUTLIERS)).to_series()


def _labelled(
    store: Store, model: str, schema: Schema, sample: pl.DataFrame, judges: Mapping[str, bool]
) -> tuple[pl.DataFrame | None, NDArray[np.bool_] | None]:
    """The judged records that are still at hand, flagged ones and those of the sample; `judges` is by alert."""
    if not judges:
        return None, None
    flagged = _read(store, model, schema, "flagged")
    known = sample if flagged is None else pl.concat([flagged, sample])
    judged = known.filter(pl.col(ALERT_ID).is_in(list(judges))).unique(ALERT_ID, maintain_order=True)
    if not judged.height:
        return None, None
    labels = np.array([judges[alert] for alert in judged.get_column(ALERT_ID)], dtype=bool)
    return judged.select(schema.feature_names), labels
