"""What reports show of this paper: gradient norm and misses between training images, of each variant.

Importing this imports no torch: a report is drawn without.
"""

import math
from collections.abc import Mapping

from matplotlib.figure import Figure

from paperzoo.reports.figures.style import STYLES, WIDTH
from paperzoo.reports.model import Report, Variant

Curves = dict[str, dict[float, float]]  # by what is measured, by λ: the mean over runs
WHAT = {"gradient_norm": (1, "norm of the logits' gradient"), "misses": (100, "neither of the two classes (%)")}


def figures(report: Report) -> dict[str, Figure]:
    """One picture of all variants whose records hold ``between/<λ>/...``."""
    known = {variant.name: curves for variant in report.variants if (curves := curves_of(variant))}
    return {"between_samples": _curves(known)} if known else {}


def curves_of(variant: Variant) -> Curves:
    """The means over a variant's runs."""
    values: dict[str, dict[float, list[float]]] = {}
    for run in variant.runs:
        for key, value in run.results["last"].metrics.items() if "last" in run.results else ():
            if key.startswith("between/") and math.isfinite(value):
                _, weight, what = key.split("/")
                values.setdefault(what, {}).setdefault(float(weight), []).append(value)
    return {
        what: {weight: math.fsum(found) / len(found) for weight, found in sorted(row.items())}
        for what, row in values.items()
    }


def _curves(known: Mapping[str, Curves]) -> Figure:
    figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
    figure.suptitle("Between two training images", fontsize=9)
    for axes, (what, (scale, label)) in zip(figure.subplots(2, 1, sharex=True), WHAT.items(), strict=True):
        for (name, curves), (colour, marker, line) in zip(known.items(), STYLES, strict=False):
            row = curves.get(what, {})
            x, y = list(row), [scale * value for value in row.values()]
            axes.plot(x, y, color=colour, marker=marker, markersize=3, linestyle=line, label=name)
        axes.set(ylabel=label, xlim=(0, 1))
        axes.set_ylim(bottom=0)
    axes.set_xlabel("weight of the first image")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center")
    return figure
