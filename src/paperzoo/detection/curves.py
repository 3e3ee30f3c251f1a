"""What a detection run leaves beside its record: AP by class and size, curves of precision and recall."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from paperzoo.detection.coco_ap import IOUS, RECALLS, by_class
from paperzoo.detection.voc_ap import area, eleven, voc_curves

NAMED = 20  # classes in a legend
AP_FILE, CURVES_FILE = "average_precision.csv", "precision_recall.csv"
Images = Sequence[Sequence[dict[str, Any]]]


class OfSplit(NamedTuple):
    """A pass over a split.

    Attributes:
        curves: ``coco_ap.Judged.precision`` by kind, ``box`` or ``mask``.
        truth, found: see ``coco_ap.judge``.
    """

    curves: dict[str, np.ndarray]
    truth: Images
    found: Images


def write(folder: Path, tested: OfSplit, classes: Sequence[str]) -> None:
    """Write ``average_precision.csv``, a row for each kind and class, and ``precision_recall.csv``.

    The first has COCO's figures and, of boxes, VOC's at IoU 0.5 (``voc_ap``: of all points; ``voc_ap11``: of 11), and
    after the classes a row ``mean`` over those that have a number. The second has the precision of each kind, class
    and IoU at the 101 recalls of COCO. A cell is empty where there are no objects that it could be about.
    """
    counts = np.bincount(
        [one["category_id"] for own in tested.truth for one in own if not one["iscrowd"]], minlength=len(classes)
    )
    with (folder / AP_FILE).open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        for row, (kind, precision) in enumerate(tested.curves.items()):
            figures = by_class(precision) | _voc(tested, len(classes), kind)
            if not row:
                table.writerow(["kind", "class", "objects", *figures])
            for k, name in enumerate(classes):
                table.writerow([kind, name, counts[k], *(_cell(values[k]) for values in figures.values())])
            table.writerow([kind, "mean", counts.sum(), *(_cell(_mean(values)) for values in figures.values())])
    with (folder / CURVES_FILE).open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["kind", "class", "iou", *(f"recall_{recall:.2f}" for recall in RECALLS)])
        for kind, precision in tested.curves.items():
            for k, name in enumerate(classes):
                for i, iou in enumerate(IOUS):
                    table.writerow([kind, name, f"{iou:.2f}", *map(_cell, precision[i, :, k, 0])])


def precision_recall(precision: np.ndarray, classes: Sequence[str]) -> Figure:
    """Precision over recall: at five IoUs, means over classes; and of each class at IoU 0.5, with its AP.

    Args:
        precision: ``coco_ap.Judged.precision``.
        classes: K names; those without objects are left out, and beyond ``NAMED`` only the best are named.
    """
    curves = precision[:, :, :, 0]  # (10, 101, K)
    present = np.flatnonzero(~np.isnan(curves[0, 0]))
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    means, single = figure.subplots(1, 2)
    shown = range(0, len(IOUS), 2) if len(present) else ()
    for i, colour in zip(shown, colormaps["viridis"](np.linspace(0, 0.9, len(shown))), strict=True):
        curve = curves[i][:, present].mean(axis=1)
        means.plot(RECALLS, curve, color=colour, label=f"IoU {IOUS[i]:.1f}: {curve.mean():.3f}")
    best = present[np.argsort(-curves[0][:, present].mean(axis=0), kind="stable")]
    for place, (k, colour) in enumerate(zip(best, colormaps["turbo"](np.linspace(0.05, 0.95, len(best))), strict=True)):
        curve = curves[0][:, k]
        label = f"{classes[k]}: {curve.mean():.3f}" if place < NAMED else None
        single.plot(RECALLS, curve, color=colour, linewidth=1.0, label=label)
    for axes, title in ((means, "Mean over classes, with its AP"), (single, "Classes at IoU 0.5, with their AP")):
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=title)
        if axes.lines:
            axes.legend(fontsize=7, loc="lower left")
    return figure


def _voc(tested: OfSplit, classes: int, kind: str) -> dict[str, np.ndarray]:
    """VOC's figures are of boxes: those of other kinds are left out."""
    if kind != "box":
        return {name: np.full(classes, np.nan) for name in ("voc_ap", "voc_ap11")}
    every = voc_curves(tested.truth, tested.found, classes)
    return {
        name: np.array([ap(curve) if curve else np.nan for curve in every])
        for name, ap in (("voc_ap", area), ("voc_ap11", eleven))
    }


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"
