"""Learning curves."""

import math

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paperzoo.reports import wording
from paperzoo.reports.figures.style import (
    MOST,
    MUTED,
    WIDTH,
    Sketch,
    best_first,
    every,
    legend,
    legend_height,
    listed,
    styles_of,
    variant_keys,
)
from paperzoo.reports.model import Report, Variant


def draw_curves(report: Report) -> Sketch | None:
    """The validation metric by epoch: mean over the seeds, and the band from the lowest to the highest."""
    metric = f"val/{report.metric.rsplit('/', 1)[-1]}"
    curves = {variant.name: curve_of(variant, metric, 100 if report.unit == "%" else 1) for variant in report.variants}
    variants = [variant for variant in best_first(report, report.variants) if curves[variant.name]]
    if not variants:
        return None
    styles = styles_of(variants)
    figure = Figure(figsize=(WIDTH, 3.0 + legend_height(styles)), layout="constrained")
    axes = figure.subplots()
    for variant in (
        variants
        if len(variants) <= MOST
        else [*variants[:MOST], *(variant for variant in variants[MOST:] if variant.baseline)]
    ):
        epochs, low, mean, high = zip(*curves[variant.name], strict=True)
        if variant.name not in styles:
            axes.plot(epochs, mean, color=MUTED, linewidth=0.6, alpha=0.6, zorder=1)
            continue
        color, marker, line = styles[variant.name]
        axes.plot(epochs, mean, color=color, linestyle=line, marker=marker, markersize=4, markevery=every(len(epochs)))
        axes.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=wording.printable(f"{metric} ({report.unit})" if report.unit else metric))
    legend(figure, variant_keys(styles, len(variants)))
    last = listed(f"{variant.name} {wording.number(curves[variant.name][-1][2])}" for variant in variants)
    alt = f"{metric} by epoch, mean over the seeds and band from the lowest to the highest; at the end: {last}"
    return Sketch("curves", "Validation by epoch: mean, and band from the lowest to the highest seed", alt, figure)


def curve_of(variant: Variant, metric: str, scale: float) -> list[tuple[float, float, float, float]]:
    """(epoch, lowest, mean, highest) over the runs that reached the epoch."""
    values: dict[float, list[float]] = {}
    for run in variant.runs:
        for row in run.epochs:
            value = row.get(metric)
            if isinstance(value, int | float) and math.isfinite(value) and "epoch" in row:
                values.setdefault(row["epoch"], []).append(scale * value)
    return [(epoch, min(v), math.fsum(v) / len(v), max(v)) for epoch, v in sorted(values.items())]
