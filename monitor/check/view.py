"""`ganwatch check` for people: a table on a terminal, one line each elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from monitor.check.trials import State, Trial

_STYLES: dict[State, str] = {"ok": "green", "wrong": "bold red", "not tried": "dim"}


def print_trials(console: Console, trials: Sequence[Trial]) -> None:
    """What was tried, in order."""
    if console.is_terminal:
        console.print(_table(trials))
    else:
        for trial in trials:
            console.print(_line(trial))
    wrong = sum(trial.state == "wrong" for trial in trials)
    if not wrong:
        console.print("all is well: `ganwatch run` can start")
    else:
        console.print(f"{wrong} of {len(trials)} wrong; `ganwatch run` would not work")


def _table(trials: Sequence[Trial]) -> Table:
    table = Table("", "what", "found")
    for trial in trials:
        detail = trial.detail if trial.remedy is None else f"{trial.detail}\nto mend it: {trial.remedy}"
        table.add_row(trial.state, trial.what, detail, style=_STYLES[trial.state])
    return table


def _line(trial: Trial) -> str:
    remedy = "" if trial.remedy is None else f"; to mend it: {trial.remedy}"
    return f"{trial.state:<9}  {trial.what}: {trial.detail}{remedy}"
