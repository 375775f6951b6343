"""Looks at rows before a model learns from them: what must stop a retraining, and what somebody should know."""

from __future__ import annotations

import polars as pl

from monitor.errors import ConfigError
from monitor.model.bundle import Manifest
from monitor.model.schema import Schema
from training.history import History, describe_window

LEAST_RETRAIN_ROWS = 200
# A sensor that died since the reference was frozen; learning its silence as normal would hide it for ever.
_MORE_MISSING = 0.5


def validate(
    history: History,
    schema: Schema,
    *,
    champion: Manifest | None,
    reference: pl.DataFrame | None,
    max_invalid_ratio: float,
) -> list[str]:
    """Checks what was read.

    Args:
        history: the rows.
        schema: their features.
        champion: what the model in service was made from.
        reference: frozen normal rows, to compare with; None when there are none yet.
        max_invalid_ratio: the largest share of records that may have been unreadable.

    Returns:
        Remarks, one sentence each.

    Raises:
        ConfigError: with every problem that makes these rows unfit.
    """
    problems = [*_about_number(history, max_invalid_ratio)]
    if reference is not None:
        problems += _about_missing(history.frame, reference, schema)
    if problems:
        raise ConfigError(history.source, problems)
    return [*_about_constants(history.frame, reference, schema), *_about_age(history, champion)]


def _about_number(history: History, max_invalid_ratio: float) -> list[str]:
    rows, invalid = history.frame.height, sum(history.invalid.values())
    problems = []
    if rows < LEAST_RETRAIN_ROWS:
        problems.append(f"{rows} rows are too few to retrain; at least {LEAST_RETRAIN_ROWS} are needed")
    if invalid > max_invalid_ratio * (rows + invalid):
        problems.append(
            f"{invalid} of {rows + invalid} records are invalid ({_listed(history)}), more than max_invalid_ratio = "
            f"{max_invalid_ratio:g} allows"
        )
    return problems


def _listed(history: History) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in history.invalid.most_common())


def _about_missing(frame: pl.DataFrame, reference: pl.DataFrame, schema: Schema) -> list[str]:
    problems = []
    for name in schema.feature_names:
        now, then = (_missing_share(rows.get_column(name)) for rows in (frame, reference))
        if now - then > _MORE_MISSING:
            problems.append(
                f"feature {name!r} is missing in {now:.0%} of the rows, in the reference in {then:.0%}; mend its source, or "
                "name a new anchor (`ganwatch models promote VERSION --anchor`) when this is how it will stay"
            )
    return problems


def _missing_share(values: pl.Series) -> float:
    return values.null_count() / len(values) if len(values) else 0.0


def _about_constants(frame: pl.DataFrame, reference: pl.DataFrame | None, schema: Schema) -> list[str]:
    if reference is None:
        return []
    return [
        f"feature {name!r} has one value only, in the reference it had several"
        for name in schema.feature_names
        if frame.get_column(name).drop_nulls().n_unique() <= 1 < reference.get_column(name).drop_nulls().n_unique()
    ]


def _about_age(history: History, champion: Manifest | None) -> list[str]:
    last = describe_window(history.times)[1]
    learned = champion.data.get("last") if champion else None
    if last is None or learned is None or last > learned:
        return []
    return [f"no row is newer than what the champion learned from ({learned})"]
