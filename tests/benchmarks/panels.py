"""Measured curves, drawn as small multiples in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from tests.benchmarks.kdd99_stream import say

OURS, BARE = "ganwatch", "a loop that only polls"
_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    OURS: ("", {"color": "#1f5fa8", "marker": "o"}),
    BARE: ("bare_poll_", {"color": "#999999", "marker": "s", "linestyle": "--"}),
}
_DECADE = 10


@dataclass
class Panel:
    """One small plot.

    Attributes:
        key: of its figures.
        title: what it shows.
        x_label: with its unit.
        y_label: with its unit.
        lines: points by name, `OURS` or `BARE`.
    """

    key: str
    title: str
    x_label: str
    y_label: str = "records/s"
    lines: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, line: str, x: float, y: float) -> None:
        """Adds and prints a point."""
        self.lines.setdefault(line, []).append((x, y))
        say(f"{self.title}, {line}: {self.x_label} {_short(x)}: {y:,.4g} {self.y_label}")

    def figures(self) -> dict[str, float]:
        """Every point under a name of its own."""
        return {
            f"{_LINES[line][0]}{self.key}_{_short(x).replace(',', '')}": float(f"{y:.4g}")
            for line, points in self.lines.items()
            for x, y in points
        }


def draw_panels(panels: Sequence[Panel], title: str, path: Path) -> None:
    """Writes six of them as PNG."""
    mpl.use("Agg")
    spacing = ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.12)
    figure, grid = plt.subplots(2, 3, figsize=(13, 8), layout=spacing)
    for panel, axes in zip(panels, grid.flat, strict=True):
        _draw(panel, axes)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw(panel: Panel, axes: Axes) -> None:
    """One plot: what spans more than a decade gets a logarithmic axis, any other one begins at 0; x is marked at the points."""
    for line, points in panel.lines.items():
        x, y = zip(*points, strict=True)
        axes.plot(x, y, label=line, **_LINES[line][1])
    places = [x for x, _ in panel.lines[OURS]]
    heights = [y for points in panel.lines.values() for _, y in points]
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [_short(x) for x in places])
    axes.xaxis.set_minor_locator(NullLocator())
    if max(heights) > _DECADE * min(heights):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, 1.1 * max(heights))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y / 1000:,.0f} k" if y >= 1000 else f"{y:g}"))
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    axes.grid(alpha=0.3)
    if len(panel.lines) > 1:
        axes.legend(frameon=False)


def _short(x: float) -> str:
    """A place on the x-axis."""
    return f"{x:,.0f}" if x >= _DECADE else f"{x:.2g}"
