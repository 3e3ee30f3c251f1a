"""Pictures of single tasks."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

NAMED = 20  # classes that a legend names


def embedding(points: Tensor, labels: Tensor, classes: Sequence[str], share: float) -> Figure:
    """Points (N, 2) in the colours of their labels (N,).

    Args:
        points, labels: of the samples.
        classes: K names.
        share: of the variance that the two directions hold.
    """
    figure = Figure(figsize=(7.4, 6), layout="constrained")
    axes = figure.subplots()
    colours = colormaps["tab20" if len(classes) > 10 else "tab10"].colors  # type: ignore[attr-defined]
    where, label = points.numpy(), labels.numpy()
    for k in np.unique(label):
        name = classes[k] if len(classes) <= NAMED else None
        x, y = where[label == k].T
        axes.scatter(x, y, s=8, color=colours[k % len(colours)], label=name, linewidths=0)
    axes.set(xlabel="first principal direction", ylabel=f"second ({share:.0%} of the variance in both)")
    if len(classes) <= NAMED:
        figure.legend(loc="outside right center", frameon=False, markerscale=2)
    axes.set_aspect("equal", adjustable="datalim")
    return figure


def recall(shares: Tensor) -> Figure:
    """Recall@k (the cumulative match characteristic) over k, from 1."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(shares) + 1), 100 * shares.numpy(), marker="o", markersize=3, color="#0072B2")
    axes.set(xlabel="k", ylabel="queries with a match among the first k (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure


def answers(given: Tensor, right: Tensor) -> Figure:
    """Answers (N, K) over what is right (N, K), with the line where both are equal."""
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(right.flatten().numpy(), given.flatten().numpy(), s=6, color="#0072B2", linewidths=0, alpha=0.6)
    low, high = float(right.min()), float(right.max())
    axes.plot([low, high], [low, high], color="0.4", linewidth=0.8)
    axes.set(xlabel="right answer", ylabel="network's answer")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure
