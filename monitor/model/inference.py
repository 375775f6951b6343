"""Infers a feature schema from a sample: judges each column, then chooses one id, one key and one time among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

import polars as pl

from monitor.errors import ConfigError
from monitor.model.findings import Finding, Verdict, is_named_id, name_words, rows
from monitor.model.schema import Schema
from monitor.model.verdict import judge

WHERE = "ganwatch init"
WEAK_BELOW_ROWS = 100
_ENTITIES = {
    "account", "card", "client", "customer", "device", "employee", "email", "host", "hostname", "instance", "ip",
    "machine", "merchant", "node", "patient", "phone", "pod", "sensor", "server", "session", "subscriber", "terminal",
    "user", "username", "vehicle",
}  # fmt: skip
_EVENT_TIMES = {"timestamp", "time", "ts", "event", "datetime", "date"}


@dataclass(frozen=True)
class Inference:
    """A schema and how it came about.

    Attributes:
        schema: ready to be used; worth reading first.
        findings: one a column, in the order of the sample.
        n_rows: rows looked at.
        n_skipped: records of the sample that were not JSON objects.
    """

    schema: Schema
    findings: tuple[Finding, ...]
    n_rows: int
    n_skipped: int = 0

    @property
    def is_weak(self) -> bool:
        """Whether the sample was too small to trust the verdicts."""
        return self.n_rows < WEAK_BELOW_ROWS


def infer_schema(frame: pl.DataFrame, name: str, *, timezone: str | None = None, n_skipped: int = 0) -> Inference:
    """Says what each column of a sample is and makes a schema of it.

    Args:
        frame: the sample, as `read_sample` or `frame_from_records` gives it.
        name: of the schema and of the model to come.
        timezone: IANA zone of time stamps that carry none; without it such stamps are left out.
        n_skipped: records that were not JSON objects, to be told to the user.

    Raises:
        ConfigError: there are no rows, no column can be a feature (with the reason for each), or the name or the time
            zone is not valid.
    """
    if not frame.height:
        skipped = f"none of {n_skipped} records is a JSON object" if n_skipped else "there are no rows"
        raise ConfigError(WHERE, f"{skipped}; a schema needs a sample")
    if timezone is not None:
        _check_zone(timezone)
    findings = tuple(_place(judge(column), frame, timezone) for column in frame)
    features = [
        {"name": finding.column, "kind": finding.kind, "shape": finding.shape}
        for finding in findings
        if finding.is_feature
    ]
    if not features:
        reasons = [f"{finding.column!r} is no feature: {finding.reason}" for finding in findings]
        fix = "give rows in which a column that is no id, key, time or label takes several values, or write the schema by hand"
        raise ConfigError(WHERE, [f"no column of {rows(frame.height)} can be a feature; {fix}", *reasons])
    stamp = _best(findings, "timestamp", lambda finding: not _EVENT_TIMES.isdisjoint(name_words(finding.column)))
    mapping = {
        "name": name,
        "id": _column(_best(findings, "id", lambda finding: is_named_id(finding.column))),
        "key": _column(_best(findings, "key", lambda finding: not _ENTITIES.isdisjoint(name_words(finding.column)))),
        "timestamp": stamp
        and {"field": stamp.column, "format": stamp.stamp, "timezone": timezone if stamp.naive else None},
        "features": features,
    }
    return Inference(Schema.from_mapping(mapping, WHERE), findings, frame.height, n_skipped)


def _check_zone(timezone: str) -> None:
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigError(WHERE, f"unknown time zone {timezone!r}; use an IANA name such as 'Europe/Berlin'") from error


def _place(finding: Finding, frame: pl.DataFrame, timezone: str | None) -> Finding:
    """Corrects a verdict by what the column itself does not show: its neighbours and the time zone."""
    if any(column.startswith(f"{finding.column}.") for column in frame.columns):
        return replace(
            finding, verdict="unsupported", kind=None, reason="an object in some records and a plain value in others"
        )
    plain = next((name for name in frame.columns if finding.column.startswith(f"{name}.")), None)
    if plain is not None and finding.is_feature:
        n_plain = frame.height - frame.get_column(plain).null_count()
        reason = f"{finding.reason}; {plain!r} is a plain value in {rows(n_plain)}, which will be refused"
        return replace(finding, reason=reason)
    if finding.verdict == "timestamp" and finding.naive:
        if timezone is None:
            reason = f"{finding.reason}, without a time zone; give theirs (`ganwatch init --timezone Europe/Berlin`)"
            return replace(finding, verdict="ambiguous_time", reason=reason)
        return replace(finding, reason=f"{finding.reason}, read as {timezone}")
    return finding


def _best(findings: Sequence[Finding], verdict: Verdict, is_named_so: Callable[[Finding], bool]) -> Finding | None:
    """The first column of a verdict, before others one that is named accordingly."""
    candidates = [finding for finding in findings if finding.verdict == verdict]
    return next((finding for finding in candidates if is_named_so(finding)), candidates[0] if candidates else None)


def _column(finding: Finding | None) -> str | None:
    return finding.column if finding else None
