"""The score against what it costs."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from paperzoo.reports import wording
from paperzoo.reports.figures.style import (
    MUTED,
    WIDTH,
    Sketch,
    best_first,
    legend,
    legend_height,
    listed,
    mean_of,
    metric_label,
    styles_of,
    variant_keys,
)
from paperzoo.reports.model import Report, Variant

COSTS = {"parameters": "parameters", "macs": "MACs per {sample}", "seconds": "seconds per run"}


def draw_cost(report: Report) -> Sketch | None:
    """The score against each cost; a line joins the variants that no other beats in both."""
    scored = [
        variant
        for variant in best_first(report, report.variants)
        if variant.score and math.isfinite(variant.score.mean)
    ]
    panels = {key: [variant for variant in scored if _has(variant, key)] for key in COSTS}
    panels = {key: variants for key, variants in panels.items() if len(variants) > 1}
    if not panels:
        return None
    styles = styles_of(scored)
    height = 2.1 * len(panels) + legend_height(styles) + 0.2
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    all_axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    fronts = []
    for axes, (key, variants) in zip(all_axes, panels.items(), strict=True):
        front = pareto_front(variants, key, report.goal)
        name = COSTS[key].format(sample=report.sample)
        fronts.append(f"{name}: " + listed(variant.name for variant in front))
        _panel(axes, variants, front, key, styles)
        axes.set(xlabel=name, ylabel=metric_label(report))
    legend(figure, [*variant_keys(styles, len(scored)), Line2D([], [], color=MUTED, linewidth=1, label="Pareto front")])
    alt = f"{metric_label(report)} against cost. Variants that no other beats in both, " + "; ".join(fronts)
    return Sketch("cost", "Score against cost, with the Pareto front", alt, figure)


def _panel(axes: Axes, variants: Sequence[Variant], front: Sequence[Variant], key: str, styles: dict[str, Any]) -> None:
    points = [(variant.cost[key].mean, mean_of(variant)) for variant in front]
    axes.plot(*zip(*points, strict=True), color=MUTED, linewidth=1, drawstyle="steps-post", zorder=1)
    others = [(variant.cost[key].mean, mean_of(variant)) for variant in variants if variant.name not in styles]
    axes.plot([cost for cost, _ in others], [score for _, score in others], ".", color=MUTED, markersize=5)
    for variant in reversed(
        [variant for variant in variants if variant.name in styles]
    ):  # the best is drawn last, on top
        color, marker, _ = styles[variant.name]
        axes.plot(variant.cost[key].mean, mean_of(variant), marker, color=color, markersize=7)
    costs = [variant.cost[key].mean for variant in variants]
    low, high = min(costs), max(costs)
    if low > 0 and high > 20 * low:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:  # what differs by a thousandth looks it
        room = max(0.08 * (high - low), 0.05 * abs(high), 1e-9)
        axes.set_xlim(low - room, high + room)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: wording.short(value, 4)))
    axes.margins(y=0.15)


def pareto_front(variants: Sequence[Variant], key: str, goal: str) -> list[Variant]:
    """The variants that no other beats in score at the same or a lower cost, cheapest first."""
    sign = 1 if goal == "maximize" else -1
    front: list[Variant] = []
    for variant in sorted(variants, key=lambda variant: (variant.cost[key].mean, -sign * mean_of(variant))):
        if not front or sign * mean_of(variant) > sign * mean_of(front[-1]):
            front.append(variant)
    return front


def _has(variant: Variant, key: str) -> bool:
    return key in variant.cost and math.isfinite(variant.cost[key].mean)
