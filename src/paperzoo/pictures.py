"""The pictures in a run folder: learning curves and confusion matrix."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's colours, told apart by all common kinds of colour vision.
TRAIN, VAL, RATE = "#0072B2", "#D55E00", "#009E73"
KINDS = ("#0072B2", "#E69F00", "#56B4E9", "#CC79A7")
HEADLINES = {"top1": "Top-1 accuracy (%)", "miou": "Mean IoU (%)"}
UNLABELLED = (0.85, 0.85, 0.85)
LEGEND = 20  # classes named beside a picture of maps, those with the most pixels


def learning_curves(rows: Sequence[dict[str, Any]], title: str, path: Path, headline: str = "top1") -> None:
    """Loss, the metric that counts (a share) and learning rate over the epochs."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    figure.suptitle(title)
    loss, accuracy, rate = figure.subplots(1, 3)
    _curves(loss, rows, "loss", "Loss", 1)
    _curves(accuracy, rows, headline, HEADLINES[headline], 100)
    rate.plot([row["epoch"] for row in rows], [row["lr"] for row in rows], color=RATE, marker="o", markersize=3)
    _label(rate, "Learning rate")
    figure.savefig(path, dpi=110)


def confusion_matrix(matrix: Any, classes: Sequence[str], title: str, path: Path) -> None:
    """Counts of (truth, prediction), shaded by the share of the true class; numbers where they can be read.

    Args:
        matrix: (K, K), rows are the truth.
        classes: K names.
    """
    counts = np.asarray(matrix)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(max(4.5, 0.42 * len(classes) + 1.5), 14)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    axes.set(title=title, xlabel="predicted", ylabel="true")
    if len(classes) <= 30:
        axes.set_xticks(range(len(classes)), classes, rotation=45 if max(map(len, classes)) > 2 else 0)
        axes.set_yticks(range(len(classes)), classes)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if share[row, column] > 0.5 else "black"
                axes.text(column, row, str(int(count)), ha="center", va="center", color=color, fontsize=8)
    figure.savefig(path, dpi=110)


def predictions(
    images: Any, truth: Any, predicted: Any, classes: Sequence[str], ignored: int, title: str, path: Path
) -> None:
    """Images, their true maps and the predicted ones, a row each, with a legend of the classes in sight.

    Args:
        images: (N, H, W, C) uint8.
        truth, predicted: (N, H, W) class indices; pixels whose truth is ``ignored`` are grey there.
        classes: K names.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    unlabelled = truth == ignored
    colours = _palette(len(classes))
    true = np.where(unlabelled[..., None], UNLABELLED, colours[np.where(unlabelled, 0, truth)])
    count = len(images)
    figure = Figure(figsize=(1.7 * count + 1.6, 5.6), layout="constrained")
    figure.suptitle(title)
    for row, (name, maps) in enumerate((("image", images), ("truth", true), ("prediction", colours[predicted]))):
        for column in range(count):
            axes = figure.add_subplot(3, count, row * count + column + 1)
            axes.imshow(np.squeeze(maps[column]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set(xticks=[], yticks=[], ylabel="" if column else name)
    pixels = np.bincount(np.concatenate([truth[~unlabelled], predicted.ravel()]), minlength=len(classes))
    seen = [int(k) for k in np.argsort(-pixels, kind="stable") if pixels[k]][:LEGEND]
    handles = [Patch(color=colours[k], label=classes[k]) for k in seen]
    if unlabelled.any():
        handles.append(Patch(color=UNLABELLED, label="unlabelled"))
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def _palette(count: int) -> np.ndarray:
    """(count, 3) colours: hues by the golden section in three kinds of brightness, so that neighbours differ."""
    hues = [colormaps["hsv"]((0.58 + 0.618034 * k) % 1)[:3] for k in range(count)]
    return np.array(hues) * np.array([(1.0, 0.7, 0.45)[k % 3] for k in range(count)])[:, None]


def norm_ratios(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """The shares of each kind of statistics, layer by layer: one row of bars for the mean, one for the variance.

    Args:
        rows: one per layer, from input to output: ``layer``, ``mean/<kind>``, ``variance/<kind>``.
    """
    figure = Figure(figsize=(min(max(7, 0.28 * len(rows) + 2), 18), 5.2), layout="constrained")
    figure.suptitle(title)
    for axes, what in zip(figure.subplots(2, 1, sharex=True), ("mean", "variance"), strict=True):
        below = np.zeros(len(rows))
        for kind, color in zip([key[len(what) + 1 :] for key in rows[0] if key.startswith(what)], KINDS, strict=False):
            shares = np.array([row[f"{what}/{kind}"] for row in rows])
            axes.bar(range(len(rows)), shares, 0.9, bottom=below, color=color, label=kind)
            below += shares
        axes.set(ylabel=f"share of the {what}", ylim=(0, 1), xlim=(-0.6, len(rows) - 0.4))
        axes.spines[["top", "right"]].set_visible(False)
    labels = [row["layer"] for row in rows]
    axes.set_xticks(range(len(rows)), labels, rotation=90, fontsize=7 if len(rows) < 60 else 4)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=110)


def _curves(axes: Axes, rows: Sequence[dict[str, Any]], metric: str, label: str, scale: float) -> None:
    for split, color in (("train", TRAIN), ("val", VAL)):
        points = [(row["epoch"], row[f"{split}/{metric}"] * scale) for row in rows if f"{split}/{metric}" in row]
        if points:
            axes.plot(*zip(*points, strict=True), color=color, marker="o", markersize=3, label=split)
    _label(axes, label)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def _label(axes: Axes, label: str) -> None:
    axes.set(xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
