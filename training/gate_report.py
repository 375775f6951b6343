"""The report of one retraining: Markdown for people, beside the models in the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monitor.model.bundle import Manifest
from training.gate import GateResult


def report_path(model: str, version: str) -> str:
    """Where the report of a version lies in the registry."""
    return f"reports/{model}/{version}.md"


def write_report(version: str, manifest: Manifest, result: GateResult, remarks: Sequence[str]) -> bytes:
    """The report: verdict, checks, remarks, data and training."""
    data, metrics = manifest.data, manifest.metrics
    lines = [
        f"# {manifest.model} {version}: {result.verdict}",
        "",
        f"Champion {result.champion or 'none'}, anchor {result.anchor or 'none'}; "
        f"the newest rows {'differ from' if result.drift else 'look like'} those that the champion knows.",
        "",
        *_table(
            ("check", "limit", "value", "verdict"),
            [(c.name, c.limit, f"{c.value:.4g}", c.verdict) for c in result.checks],
        ),
        "",
    ]
    if remarks:
        lines += ["## Remarks", "", *(f"- {remark}" for remark in remarks), ""]
    lines += ["## Data", "", *_table(("", ""), data.items()), ""]
    lines += ["## Training", "", f"{manifest.detector}, {manifest.configuration}", ""]
    figures = {key: value for key, value in metrics.items() if key != "gate"}
    lines += [*_table(("", ""), figures.items()), ""]
    return "\n".join(lines).encode()


def _table(header: Sequence[str], rows: Any) -> list[str]:
    lines = [_row(header), _row(["---"] * len(header))]
    return lines + [_row(row) for row in rows]


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"
