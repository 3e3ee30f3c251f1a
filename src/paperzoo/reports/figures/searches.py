"""The runs of a search: settings against score, and which settings mattered."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paperzoo.reports import wording
from paperzoo.reports.figures.style import (
    MOST,
    MUTED,
    PAPER,
    STYLES,
    WIDTH,
    Sketch,
    best_first,
    legend,
    listed,
    mean_of,
    metric_label,
    rows_of,
    short_name,
    wrapped,
)
from paperzoo.reports.model import Report

CROWD = 300  # runs of a search that are drawn as lines


def draw_parallel(report: Report) -> Sketch | None:
    """Each run of a search as a line over its settings to its score; the best in colour."""
    known = [
        variant
        for variant in best_first(report, report.variants)
        if variant.score and math.isfinite(variant.score.mean)
    ]
    variants = known[:CROWD]
    keys = [key for key in report.swept if any(key in variant.settings for variant in variants)]
    if not variants or not keys:
        return None
    columns = [[variant.settings.get(key) for variant in variants] for key in keys] + [
        [mean_of(variant) for variant in variants]
    ]
    names = [*keys, metric_label(report)]
    scales = [_scale(column) for column in columns]
    figure = Figure(figsize=(WIDTH, 0.62 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=False)
    colors: Colormap = matplotlib.colormaps["cividis"]
    for place in reversed(range(len(variants))):  # the axes lie: a phone is narrow, and names need its width
        x = [positions[place] for positions, _ in scales]
        best = place == 0
        color = "#D55E00" if best else colors(1 - place / len(variants))
        style: dict[str, Any] = {"linewidth": 2.2, "marker": "o", "markersize": 5} if best else {"linewidth": 0.8}
        axes.plot(x, range(len(names)), color=color, alpha=1 if best else 0.55, zorder=3 if best else 2, **style)
    beneath = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8, "alpha": 0.8}
    for row, (_, ticks) in enumerate(scales):
        axes.axhline(row, color=MUTED, linewidth=0.8, zorder=1)
        for position, label in ticks:
            axes.text(position, row + 0.1, label, ha=_side(position), va="top", fontsize=7.5, bbox=beneath)
    axes.set_yticks(range(len(names)), [wrapped(name) for name in names])
    axes.set(ylim=(len(names) - 0.45, -0.3), xlim=(-0.03, 1.03), xticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    best_settings = ", ".join(f"{key}={wording.setting(variants[0].settings.get(key))}" for key in keys)
    legend(
        figure,
        [
            Line2D([], [], color="#D55E00", marker="o", markersize=5, label="best run"),
            Line2D([], [], color=colors(0.75), label="good"),
            Line2D([], [], color=colors(0.05), label="poor"),
        ],
    )
    score = wording.number(mean_of(variants[0]))
    alt = f"{len(variants)} runs over {listed(keys)}; the best, {score}, has {best_settings}"
    title = f"The best {CROWD} of {len(known)} runs" if len(known) > CROWD else "Every run of the search"
    return Sketch("parallel", title, alt, figure)


def _scale(column: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Where each value stands from 0 to 1, and the ticks: by size (by its logarithm over wide ranges), or evenly."""
    numbers = [value for value in column if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(column) or len(set(numbers)) < 2 or not all(map(math.isfinite, numbers)):
        levels = sorted({wording.setting(value) for value in column})
        place = {level: index / max(len(levels) - 1, 1) for index, level in enumerate(levels)}
        named = [(position, level) for level, position in place.items()]
        ticks = named if sum(len(level) + 2 for level in levels) < 46 else [named[0], named[-1]]
        return [place[wording.setting(value)] for value in column], [(at, short_name(text, 16)) for at, text in ticks]
    low, high = min(numbers), max(numbers)
    wide = low > 0 and high > 30 * low

    def where(value: float) -> float:
        return math.log(value / low) / math.log(high / low) if wide else (value - low) / (high - low)

    middle = math.sqrt(low * high) if wide else (low + high) / 2
    return [where(value) for value in numbers], [(where(v), wording.short(v)) for v in (low, middle, high)]


def _side(position: float) -> str:
    return "left" if position < 0.1 else "right" if position > 0.9 else "center"


def draw_importance(report: Report) -> Sketch | None:
    """How much of the scores' variation each searched key explains."""
    shares = {key: share for key, share in report.importance.items() if math.isfinite(share)}
    if not shares:
        return None
    keys = sorted(shares, key=lambda key: (-shares[key], key))[:MOST]
    figure, axes, rows = rows_of([wrapped(key) for key in keys])
    axes.barh(rows, [shares[key] for key in keys], 0.2, color=STYLES[1][0])
    for row, key in zip(rows, keys, strict=True):
        axes.text(shares[key], row, f"\N{NO-BREAK SPACE}{shares[key]:.2f}", va="center", fontsize=8)
    axes.margins(x=0.12)
    axes.set(xlabel="importance (sums to 1)")
    alt = "Importance of the searched keys: " + listed(f"{key} {shares[key]:.2f}" for key in keys)
    return Sketch("importance", "What the score depends on", alt, figure)
