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
from PIL import Image

from paperzoo.metric import Metric

# Okabe and Ito's colours, distinct for all common kinds of colour vision.
TRAIN, VAL, RATE = "#0072B2", "#D55E00", "#009E73"
UNLABELLED = (0.85, 0.85, 0.85)
# Why the two curves of a panel are no pair: training is usually the worse of the two, and that is no sign of anything.
NOTE = (
    "Training: mean over the epoch of what is optimised (augmented or mixed samples, smoothed targets, weights that "
    "still change). Validation: the plain metric at that point of training."
)
BYTE = 256  # classes that a map of bytes has room for
LEGEND = 20  # classes named beside a picture of maps, those with the most pixels


def learning_curves(rows: Sequence[dict[str, Any]], headline: Metric, steps: Sequence[dict[str, Any]] = ()) -> Figure:
    """Loss, the metric that counts and learning rate over the epochs.

    Args:
        rows: one an epoch: ``epoch``, ``step`` (optimiser steps by its end), ``lr`` and the metrics.
        headline: the metric.
        steps: rows within the epochs, with ``step`` and ``lr``: a warm-up of one epoch is seen in these alone.
    """
    figure = Figure(figsize=(11, 3.7), layout="constrained")
    loss, metric, rate = figure.subplots(1, 3)
    _curves(loss, rows, "loss", "Loss", 1)
    title = headline.title[0].upper() + headline.title[1:]
    _curves(metric, rows, headline.name, f"{title} (%)" if headline.percent else title, 100 if headline.percent else 1)
    _rate(rate, rows, steps)
    figure.supxlabel(NOTE, fontsize=8)
    return figure


def _rate(axes: Axes, rows: Sequence[dict[str, Any]], steps: Sequence[dict[str, Any]]) -> None:
    """The rate of each step that is known, at its place within the epochs; else at their ends."""
    seen = {row["step"]: row["lr"] for row in (*steps, *rows) if "lr" in row and "step" in row}
    if not seen:
        seen = {row["epoch"]: row["lr"] for row in rows}
        epochs = list(seen)
    else:
        ends = [row for row in rows if "step" in row]
        epochs = np.interp(sorted(seen), [0, *(row["step"] for row in ends)], [0, *(row["epoch"] for row in ends)])
    few: dict[str, Any] = {"marker": "o", "markersize": 3} if len(seen) <= len(rows) else {}
    axes.plot(epochs, [seen[step] for step in sorted(seen)], color=RATE, **few)
    axes.set_ylim(bottom=0)
    _label(axes, "Learning rate")


def confusion_matrix(matrix: Any, classes: Sequence[str]) -> Figure:
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
    axes.set(xlabel="predicted", ylabel="true")
    if len(classes) <= 30:
        axes.set_xticks(range(len(classes)), classes, rotation=45 if max(map(len, classes)) > 2 else 0)
        axes.set_yticks(range(len(classes)), classes)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if share[row, column] > 0.5 else "black"
                axes.text(column, row, str(int(count)), ha="center", va="center", color=color, fontsize=8)
    return figure


def predictions(images: Any, truth: Any, predicted: Any, classes: Sequence[str], ignored: int) -> Figure:
    """Images, their true maps and the predicted ones, a row each, with a legend of the classes in sight.

    Args:
        images: (N, H, W, C) uint8.
        truth, predicted: (N, H, W) class indices; pixels whose truth is ``ignored`` are grey there.
        classes: K names.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    unlabelled = truth == ignored
    colours = palette(len(classes))
    true = np.where(unlabelled[..., None], UNLABELLED, colours[np.where(unlabelled, 0, truth)])
    count = len(images)
    figure = Figure(figsize=(1.7 * count + 1.6, 5.6), layout="constrained")
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
    return figure


def map_of(image: Any, predicted: Any, classes: Sequence[str]) -> Figure:
    """An image and the map that a network gives it, with a legend of its classes.

    Args:
        image: (H, W, C) uint8.
        predicted: (H, W) class indices.
        classes: K names.
    """
    predicted, colours = np.asarray(predicted), palette(len(classes))
    figure = Figure(figsize=(9.6, 4), layout="constrained")
    for axes, shown in zip(figure.subplots(1, 2), (np.squeeze(image), colours[predicted]), strict=True):
        axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
    counts = np.bincount(predicted.ravel(), minlength=len(classes))
    seen = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]][:LEGEND]
    handles = [Patch(color=colours[k], label=classes[k]) for k in seen]
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
    return figure


def reliability(count: Any, confidence: Any, accuracy: Any, ece: float) -> Figure:
    """A reliability diagram: accuracy over confidence by bin, and below it the share of predictions in each bin.

    Args:
        count, confidence, accuracy: (n + 1,) predictions, mean confidence and accuracy of n bins of [0, 1] and of
            confidence 1; empty bins are not drawn.
        ece: expected calibration error, of the same bins.
    """
    count, confidence, accuracy = (np.asarray(values) for values in (count, confidence, accuracy))
    kept, bins = count > 0, len(count) - 1
    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.4", linewidth=0.8, label="calibrated")
    upper.vlines(confidence[kept], confidence[kept], accuracy[kept], color=VAL, alpha=0.35, linewidth=5, label="gap")
    upper.plot(confidence[kept], accuracy[kept], color=TRAIN, marker="o", markersize=4, label="bins")
    upper.set(ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02), title=f"expected calibration error {ece:.4f}")
    upper.legend(frameon=False, loc="upper left")
    lower.bar((np.arange(bins + 1) + 0.5) / bins, count / count.sum(), 0.9 / bins, color=TRAIN)
    lower.set(xlabel="confidence", ylabel="share", xlim=(0, 1 + 1 / bins))
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure


def save(figure: Figure, title: str, path: Path) -> None:
    """Write a figure with its title as a PNG."""
    figure.suptitle(title)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def palette(count: int) -> np.ndarray:
    """(count, 3) colours: hues by the golden section in three kinds of brightness, so that neighbours differ."""
    hues = [colormaps["hsv"]((0.58 + 0.618034 * k) % 1)[:3] for k in range(count)]
    return np.array(hues) * np.array([(1.0, 0.7, 0.45)[k % 3] for k in range(count)])[:, None]


def save_map(indices: np.ndarray, classes: int, path: Path) -> None:
    """Class indices (H, W) as a PNG in the colours of ``palette``; of more than 256 classes 16 bits without colours."""
    if classes > BYTE:
        Image.fromarray(indices.astype(np.uint16)).save(path)
        return
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette((255 * palette(classes)).round().astype(np.uint8).tobytes())
    image.save(path)


def _curves(axes: Axes, rows: Sequence[dict[str, Any]], metric: str, label: str, scale: float) -> None:
    for split, label_of_split, color in (("train", "training", TRAIN), ("val", "validation", VAL)):
        points = [(row["epoch"], row[f"{split}/{metric}"] * scale) for row in rows if f"{split}/{metric}" in row]
        if points:
            axes.plot(*zip(*points, strict=True), color=color, marker="o", markersize=3, label=label_of_split)
    _label(axes, label)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def _label(axes: Axes, label: str) -> None:
    axes.set(xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
