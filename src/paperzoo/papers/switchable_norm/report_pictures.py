"""What reports show of this paper: the shares of each kind of statistics that every layer has learned.

Importing this imports no torch: a report is drawn without.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from paperzoo.reports.model import Report, Variant

KINDS = ("#0072B2", "#E69F00", "#56B4E9", "#CC79A7")  # of statistics, distinct for all kinds of colour vision
MOST = 4  # variants that get a picture
HATCHES = ("", "////", "....", "xxxx")  # tell the kinds apart without colour
Shares = dict[str, dict[str, float]]  # <mean or variance>/<kind>: the share of each layer


def figures(report: Report) -> dict[str, Figure]:
    """A picture for each variant whose records hold ``norm/<layer>/<mean or variance>/<kind>``; mean over its runs."""
    known = [(variant, shares) for variant in report.variants if (shares := _shares(variant))]
    names = ["norm_ratios", *(f"norm_ratios_{place}" for place in range(2, MOST + 1))]
    return {
        name: _bars(shares, f"Learned shares of {variant.name}")
        for name, (variant, shares) in zip(names, known, strict=False)
    }


def _shares(variant: Variant) -> Shares:
    values: dict[str, dict[str, list[float]]] = {}
    for run in variant.runs:
        for key, value in run.results["last"].metrics.items() if "last" in run.results else ():
            if key.startswith("norm/") and math.isfinite(value):
                _, layer, what = key.split("/", 2)
                values.setdefault(what, {}).setdefault(layer, []).append(value)
    return {what: {layer: math.fsum(v) / len(v) for layer, v in layers.items()} for what, layers in values.items()}


def _bars(shares: Shares, title: str) -> Figure:
    """A bar per layer, from input to output downwards: the mean's shares on the left, the variance's on the right."""
    layers = list(dict.fromkeys(layer for row in shares.values() for layer in row))
    figure = Figure(figsize=(4.4, 0.2 * len(layers) + 1.2), layout="constrained")
    figure.suptitle(title, fontsize=9)
    bars: dict[str, Any] = {}
    for axes, what in zip(figure.subplots(1, 2, sharey=True), ("mean", "variance"), strict=True):
        below = np.zeros(len(layers))
        kinds = [key.partition("/")[2] for key in shares if key.startswith(f"{what}/")]
        for kind, color, hatch in zip(kinds, KINDS, HATCHES, strict=False):
            widths = _column(shares[f"{what}/{kind}"], layers)
            style = {"color": color, "hatch": hatch, "edgecolor": "#fefefe", "linewidth": 0.4}
            bars[kind] = axes.barh(range(len(layers)), widths, 0.85, left=below, **style)
            below += widths
        axes.set(xlabel=f"share of the {what}", xlim=(0, 1), ylim=(len(layers) - 0.5, -0.5))
        axes.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
        axes.grid(visible=False)
        axes.tick_params(axis="y", length=0)
    axes.set_yticks(range(len(layers)), layers, fontsize=8)
    figure.legend(bars.values(), bars, loc="outside lower center", ncols=3)
    return figure


def _column(row: dict[str, float], layers: Sequence[str]) -> Any:
    return np.array([row.get(layer, 0.0) for layer in layers])
