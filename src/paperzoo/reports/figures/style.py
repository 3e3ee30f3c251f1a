"""How figures look: colours, markers, rows with labels, legends; shared by all of them.

Colours are those of Okabe and Ito; a marker or a line style says the same a second time. A figure is as wide
as a page on a phone, so that its text needs no zooming; its height grows with the variants.
"""

import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from paperzoo.reports import wording
from paperzoo.reports.model import Interval, Report, Variant

WIDTH = 4.4  # inches: 422 pixels at 96 dpi
NAME, LINES = 22, 4  # characters and lines of a name beside an axis


MOST = 30  # variants that one figure shows, the best of a search
TOLD_APART = 7  # variants that have a style of their own

INK, MUTED, GRID, PAPER = "#1f2430", "#767c88", "#dfe2e8", "#fefefe"
DARK = {INK: "#e7eaf0", MUTED: "#949cab", GRID: "#363c48", PAPER: "#171a20", "#0072b2": "#3b9ee0"}
STYLES = (  # colour, marker, line; the first is the baseline's
    (INK, "o", "-"),
    ("#0072b2", "s", "-"),
    ("#D55E00", "^", "--"),
    ("#009E73", "D", "-."),
    ("#CC79A7", "v", ":"),
    ("#E69F00", "P", (0, (6, 1, 1, 1, 1, 1))),
    ("#56B4E9", "X", (0, (5, 1))),
)


RC = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "figure.facecolor": PAPER,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",  # letters that can be searched and copied
    "text.color": INK,
    "text.parse_math": False,  # a name with two dollars is no formula
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
}


@dataclass(frozen=True)
class Sketch:
    """A figure before it is rendered."""

    name: str
    title: str
    alt: str
    figure: Figure


def mean_of(variant: Variant) -> float:
    """The mean score of a variant; NaN where it has none."""
    return variant.score.mean if variant.score else math.nan


def rows_of(labels: Sequence[str]) -> tuple[Figure, Axes, list[float]]:
    """A figure with a row per label, each as high as its lines need."""
    heights = [max(0.19 * (label.count("\n") + 1) + 0.12, 0.34) for label in labels]
    figure = Figure(figsize=(WIDTH, sum(heights) + 1.1), layout="constrained")
    axes = figure.subplots()
    ends = [math.fsum(heights[: place + 1]) for place in range(len(heights))]
    rows = [end - height / 2 for end, height in zip(ends, heights, strict=True)]
    axes.set_yticks(rows, labels)
    axes.set_ylim(ends[-1], -0.04)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure, axes, rows


def draw_interval(axes: Axes, interval: Interval | None, row: float, *, color: str, **marker: Any) -> None:
    """An interval as a bar with its mean as a marker; nothing where there is no finite mean."""
    if interval is None or not math.isfinite(interval.mean):
        return
    if interval.low is not None and interval.high is not None and math.isfinite(interval.high - interval.low):
        axes.plot([interval.low, interval.high], [row, row], color=color, linewidth=1.8, solid_capstyle="round")
    axes.plot(interval.mean, row, color=color, markeredgewidth=1.4, **marker)


def reference_line(axes: Axes, score: Interval | None, report: Report) -> None:
    """A dashed line at the baseline's mean."""
    if score is not None and math.isfinite(score.mean):
        axes.axvline(score.mean, color=MUTED, linewidth=1, linestyle=(0, (3, 2)), zorder=1)


def styles_of(variants: Sequence[Variant]) -> dict[str, Any]:
    """A style for the baseline and the best variants, by name; the others stay in the background."""
    baseline = [variant.name for variant in variants if variant.baseline][:1]
    others = [variant.name for variant in variants if variant.name not in baseline][: TOLD_APART - 1]
    return dict(zip([*baseline, *others], STYLES if baseline else STYLES[1:], strict=False))


def variant_keys(styles: dict[str, Any], variants: int) -> list[Line2D]:
    """Legend entries of the variants that have a style, and one for all others."""
    keys = [
        Line2D([], [], color=color, marker=marker, markersize=5, linestyle=line, label=wrapped(name))
        for name, (color, marker, line) in styles.items()
    ]
    rest = variants - len(styles)
    return keys + (
        [Line2D([], [], color=MUTED, marker=".", linewidth=0.6, label=f"others ({rest})")] if rest > 0 else []
    )


def key(color: str, marker: str, label: str, fill: str | None = None) -> Line2D:
    """A legend entry of a marker."""
    return Line2D(
        [], [], color=color, marker=marker, markersize=5, linestyle="", markerfacecolor=fill or color, label=label
    )


def legend(figure: Figure, keys: Sequence[Line2D]) -> None:
    """A legend below the axes, in as many columns as its names leave room for."""
    long = max(len(str(key.get_label()).split("\n", 1)[0]) for key in keys) > 16
    columns = 3 if all(len(str(key.get_label())) < 10 for key in keys) else 1 if long and len(keys) < 4 else 2
    figure.legend(handles=keys, loc="outside lower center", ncols=columns, handlelength=2.6, columnspacing=1.2)


def legend_height(styles: dict[str, Any]) -> float:
    """Inches that the legend of these variants takes."""
    return 0.17 * sum(wrapped(name).count("\n") + 1 for name in styles) / 2 + 0.4


def best_first(report: Report, variants: Iterable[Variant]) -> list[Variant]:
    """By score, then as they stand; variants without a score come last."""
    sign = -1 if report.goal == "maximize" else 1

    def key(variant: Variant) -> tuple[bool, float]:
        scored = variant.score is not None and math.isfinite(variant.score.mean)
        return not scored, sign * mean_of(variant) if scored else 0.0

    return sorted(variants, key=key)


def metric_label(report: Report) -> str:
    """The metric with its unit, for an axis."""
    return wording.printable(f"{report.metric} ({report.unit})" if report.unit else report.metric)


def finite(values: Iterable[float]) -> list[float]:
    """The values that are finite."""
    return [value for value in values if math.isfinite(value)]


def every(points: int) -> int:
    """Of so many points, the step from marker to marker."""
    return max(1, points // 8)


def listed(items: Iterable[str], most: int = 10) -> str:
    """Comma-separated; a long list ends with how many more there are."""
    words = list(items)
    more = f", and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def wrapped(name: str) -> str:
    """A name in lines that fit beside an axis; a very long one loses its middle."""
    drawn = re.sub(r"\d+\.\d{5,}(e-?\d+)?", lambda found: f"{float(found[0]):.4g}", wording.printable(name))
    breakable = re.sub(r"([,/_])(?=\S)", "\\1\u200b", drawn)
    lines = [line.replace("\u200b", "") for line in _fold(breakable)]
    return "\n".join(lines if len(lines) <= LINES else [*lines[: LINES - 2], "…", lines[-1]])


def _fold(text: str) -> list[str]:
    lines = [""]
    for piece in re.split("(?<=\u200b)|(?<= )", text):
        if len(lines[-1].strip()) + len(piece.strip("\u200b ")) > NAME and lines[-1]:
            lines.append("")
        lines[-1] += piece
    return [part for line in lines for part in textwrap.wrap(line.replace("\u200b", ""), NAME) or [""]]


def short_name(name: str, most: int = 34) -> str:
    """A name of at most ``most`` characters; a longer one loses its middle."""
    name = wording.printable(name)
    return name if len(name) <= most else f"{name[: most - 8]}…{name[-7:]}"
