"""The report's plots as SVG text. Their colours are names that the page's style sheet gives a meaning, in light and in dark."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from training.report.evidence import Evidence, Group
from training.report.pictures import Pictures, make_grid, make_sheet
from training.samples import unpack_samples

# What matplotlib draws in the left colour the page shows in the right one.
INK, GRID, FIRST, SECOND, THIRD, FOURTH = (f"#0f00{number:02x}" for number in range(6))
_PAGE_COLOURS = {
    INK: "var(--ink)", GRID: "var(--line)", FIRST: "var(--blue)", SECOND: "var(--orange)", THIRD: "var(--green)",
    FOURTH: "var(--violet)",
}  # fmt: skip
_SERIES = (FIRST, SECOND, THIRD, FOURTH)
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ganwatch",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
_INCHES = (5.4, 3.1)
_BINS = 40
_MOST_FEATURES = 15
_FEWEST_LINES = 6
_LONGEST_NAME = 26
# More points than this are not seen.
_CURVE_POINTS = 400


def _drawn(draw: Callable[[Axes], None], *, height: float = _INCHES[1]) -> str:
    """One plot, as an `<svg>` element that takes the width of what holds it."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # It measures text in its own font; the browser, which shows it, has more letters.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(_INCHES[0], height), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside upper left", ncols=4, borderpad=0, columnspacing=1.2, handlelength=1.5)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    for drawn, shown in _PAGE_COLOURS.items():
        text = text.replace(drawn, shown)
    return text[text.index("<svg") :]


def plot_losses(course: Mapping[str, Any]) -> str:
    """Each loss over the steps."""

    def draw(axes: Axes) -> None:
        for colour, (name, values) in zip(_SERIES, course["losses"].items(), strict=False):
            axes.plot(course["step"], values, color=colour, label=name.replace("_", " "))
        every = np.array(list(course["losses"].values()))
        if (every > 0).all() and every.max() > 20 * every.min():
            axes.set_yscale("log")
        axes.set(xlabel="training step", ylabel="loss")

    return _drawn(draw)


def plot_quality(course: Mapping[str, Any], best_step: int) -> str:
    """What chose the weights, over the steps."""

    def draw(axes: Axes) -> None:
        steps, quality = zip(*course["evaluations"], strict=True)
        axes.plot(steps, quality, color=FIRST, marker=".", label="evaluation")
        axes.axvline(best_step, color=SECOND, linestyle="--", label=f"kept: step {best_step:,}")
        axes.set(xlabel="training step", ylabel="quality, higher is better")

    return _drawn(draw)


def plot_raw_scores(groups: Sequence[Group], cut: float) -> str:
    """How the raw scores are spread, up to where hardly any normal ones are."""
    least = min(float(group.raw_score.min()) for group in groups)
    top = max(float(np.quantile(groups[0].raw_score, 0.999)), cut)
    most = top + (0.25 * (top - least) or 1.0)
    return _histogram(
        [(group.name, np.minimum(group.raw_score.astype(np.float64), most)) for group in groups],
        np.linspace(least, most, _BINS + 1),
        cut,
        "raw score (what is above stands in the last bar)",
    )


def plot_scores(groups: Sequence[Group], threshold: float) -> str:
    """How the 0-100 scores are spread."""
    spread = [(group.name, group.score) for group in groups]
    return _histogram(spread, np.linspace(0, 100, _BINS + 1), threshold, "score")


def _histogram(
    spread: Sequence[tuple[str, NDArray[Any]]], edges: NDArray[np.float64], threshold: float, label: str
) -> str:
    def draw(axes: Axes) -> None:
        for colour, (name, values) in zip(_SERIES, spread, strict=False):
            weights = np.full(len(values), 1 / len(values))
            axes.hist(values, edges.tolist(), weights=weights, label=name, color=colour, alpha=0.55)
        axes.axvline(threshold, color=INK, linestyle="--", linewidth=1.2, label="threshold")
        axes.set_yscale("log")
        axes.set(xlabel=label, ylabel="share of rows")

    return _drawn(draw)


def plot_p_values(p_value: NDArray[np.float64]) -> str:
    """Share of rows at or below each p-value; calibrated ones lie on the diagonal."""

    def draw(axes: Axes) -> None:
        ordered = np.sort(p_value)
        share = np.arange(1, len(ordered) + 1) / len(ordered)
        least = 1 / len(ordered)
        diagonal = np.geomspace(least, 1, 100)
        spread = 1.96 * np.sqrt(diagonal * (1 - diagonal) / len(ordered))
        axes.fill_between(
            diagonal, np.maximum(diagonal - spread, least / 10), diagonal + spread, color=GRID, label="95 % of draws"
        )
        axes.plot(diagonal, diagonal, color=INK, linewidth=1, linestyle="--", label="as promised")
        shown = _thin_out(len(ordered))
        axes.plot(np.maximum(ordered[shown], least / 10), share[shown], color=FIRST, label="found")
        axes.set(xscale="log", yscale="log", xlabel="target alert rate", ylabel="share of rows flagged")
        axes.set(xlim=(least, 1), ylim=(least / 2, 1.3))

    return _drawn(draw)


def _thin_out(n: int) -> NDArray[np.intp]:
    """Places among n that are evenly spread on a logarithmic axis."""
    return np.unique(np.geomspace(1, n, min(n, _CURVE_POINTS)).astype(np.intp)) - 1


def plot_roc(evidence: Evidence) -> str:
    """Share of anomalies found against share of normal rows flagged, at every threshold."""

    def draw(axes: Axes) -> None:
        false_rate, true_rate, _ = roc_curve(*truth(evidence))
        axes.plot(false_rate, true_rate, color=FIRST)
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--")
        axes.set(
            xlabel="share of normal rows flagged", ylabel="share of anomalies found", xlim=(-0.01, 1), ylim=(0, 1.02)
        )

    return _drawn(draw)


def plot_precision_recall(evidence: Evidence) -> str:
    """Share of the flagged that are anomalies against share of anomalies found, at every threshold."""

    def draw(axes: Axes) -> None:
        precision, recall, _ = precision_recall_curve(*truth(evidence))
        shown = np.unique(np.linspace(0, len(recall) - 1, 4 * _CURVE_POINTS).astype(np.intp))
        axes.plot(recall[shown], precision[shown], color=FIRST)
        axes.set(xlabel="recall: share of anomalies found", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))

    return _drawn(draw)


def truth(evidence: Evidence) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Labels, bool (n,), true = anomaly, and raw scores, float32 (n,), of all rows.

    Raises:
        ValueError: there are no anomalies.
    """
    if evidence.anomalies is None:
        raise ValueError("curves need anomalies")
    scores = [group.raw_score for group in evidence.groups]
    return np.repeat([False, True], [len(score) for score in scores]), np.concatenate(scores)


def plot_errors(names: Sequence[str], evidence: Evidence) -> str:
    """How far each feature is from what the model expects, on average, for the features that deviate most."""
    most = np.max([group.errors for group in evidence.groups], axis=0)
    shown = np.argsort(-most, kind="stable")[:_MOST_FEATURES]
    bars = len(evidence.groups)

    def draw(axes: Axes) -> None:
        for number, group in enumerate(evidence.groups):
            places = np.arange(len(shown)) + (number - (bars - 1) / 2) * 0.8 / bars
            axes.barh(places, group.errors[shown], height=0.8 / bars, color=_SERIES[number], label=group.name)
        axes.set_yticks(np.arange(len(shown)), [_shortened(names[place]) for place in shown])
        axes.grid(visible=False, axis="y")
        axes.set_ylim(max(len(shown), _FEWEST_LINES) - 0.5, -0.5)  # the worst one above; a single bar stays a bar
        axes.locator_params(axis="x", nbins=5)  # more numbers would touch each other
        axes.set(xlabel="mean deviation, in the model's own units")

    return _drawn(draw, height=max(_INCHES[1], 0.9 + 0.28 * len(shown)))


def plot_pictures(pictures: Pictures) -> str:
    """Images, their reconstructions below them, and below these the differences."""
    sheet = make_sheet(pictures)

    def draw(axes: Axes) -> None:
        axes.imshow(sheet, interpolation="nearest")
        axes.set_axis_off()

    return _drawn(draw, height=_INCHES[0] * sheet.shape[0] / sheet.shape[1])


def plot_samples(packed: Mapping[str, Any], image_shape: Sequence[int]) -> str:
    """Images that were generated from the same noise at several moments, a line each."""
    grid = make_grid(unpack_samples(packed), image_shape)
    steps = packed["step"]
    line = grid.shape[0] / len(steps)

    def draw(axes: Axes) -> None:
        axes.imshow(grid, interpolation="nearest")
        axes.set_yticks(line * (np.arange(len(steps)) + 0.5), [f"step {step:,}" for step in steps])
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)

    return _drawn(draw, height=_INCHES[0] * grid.shape[0] / grid.shape[1])


def _shortened(name: str) -> str:
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return short.replace("$", r"\$")  # what stands between two dollars is a formula to matplotlib
