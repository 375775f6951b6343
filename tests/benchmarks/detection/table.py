"""Tables of a benchmark as Markdown on standard output."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.goals import describe_commit

Cell = str | float | None


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """One line a row under a heading with the commit; numbers have four decimals, None is an empty cell.

    Args:
        title: the heading.
        columns: names, the first one of what a row is about.
        rows: as many cells each as there are columns.
    """
    print(f"\n### {title} (commit {describe_commit()})\n")
    print(_line(columns))
    print(_line(["---"] + ["---:"] * (len(columns) - 1)))
    for row in rows:
        print(_line([_text(cell) for cell in row]), flush=True)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
