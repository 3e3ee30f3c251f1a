"""What reports show of this paper: how sure the networks of each variant are, and how often they are right.

Importing this imports no torch: a report is drawn without.
"""

import math
from collections.abc import Mapping

from matplotlib.figure import Figure

from paperzoo.reports.figures.style import INK, MUTED, STYLES, WIDTH
from paperzoo.reports.model import Report, Variant

Bins = dict[int, tuple[float, float, float]]  # by place: count, mean confidence, accuracy


def figures(report: Report) -> dict[str, Figure]:
    """One reliability diagram of all variants whose records hold ``calibration/<bin>/...``; the bins of their runs
    together.
    """
    known = {variant.name: found for variant in report.variants if (found := bins_of(variant))}
    return {"reliability": _diagram(known)} if known else {}


def bins_of(variant: Variant) -> Bins:
    """The bins of all runs together: counts are added, means weighted by them."""
    sums: dict[int, list[float]] = {}
    for run in variant.runs:
        metrics = run.results["last"].metrics if "last" in run.results else {}
        for key, count in metrics.items():
            if key.startswith("calibration/") and key.endswith("/count"):
                place = key.split("/")[1]
                row = sums.setdefault(int(place), [0.0, 0.0, 0.0])
                row[0] += count
                row[1] += count * metrics[f"calibration/{place}/confidence"]
                row[2] += count * metrics[f"calibration/{place}/accuracy"]
    return {place: (n, c / n, a / n) for place, (n, c, a) in sorted(sums.items())}


def ece(bins: Bins) -> float:
    """The expected calibration error of bins."""
    total = math.fsum(count for count, _, _ in bins.values())
    return math.fsum(count * abs(accuracy - confidence) for count, confidence, accuracy in bins.values()) / total


def _diagram(known: Mapping[str, Bins]) -> Figure:
    figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
    figure.suptitle("Accuracy over confidence", fontsize=9)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
    for (name, bins), (colour, marker, line) in zip(known.items(), STYLES, strict=False):
        x, y = [row[1] for row in bins.values()], [row[2] for row in bins.values()]
        label = f"{name}: ECE {ece(bins):.4f}"
        axes.plot(x, y, color=colour, marker=marker, markersize=4, linestyle=line, label=label)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.xaxis.label.set_color(INK)
    figure.legend(loc="outside lower center")
    return figure
