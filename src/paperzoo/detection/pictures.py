"""Objects drawn on their images: what was found beside what is there."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle


def beside_truth(
    images: Sequence[Any], truth: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]], classes: Sequence[str]
) -> Figure:
    """Images with their objects above, with the detections below.

    Args:
        images: (H, W, 3) uint8 each.
        truth: of each ``boxes`` (G, 4), ``labels`` (G,), and where there are any ``masks`` (G, H, W) bool.
        found: likewise, with ``scores`` (D,).
        classes: their names.
    """
    count = len(images)
    figure = Figure(figsize=(2.6 * count + 0.4, 5.4), layout="constrained")
    for row, (name, objects) in enumerate((("truth", truth), ("found", found))):
        for column in range(count):
            axes = figure.add_subplot(2, count, row * count + column + 1)
            _draw(axes, images[column], objects[column], classes)
            axes.set(xticks=[], yticks=[], ylabel="" if column else name)
    return figure


def found_on(image: Any, found: dict[str, Any], classes: Sequence[str]) -> Figure:
    """An image (H, W, 3) uint8 with what was found on it: see ``beside_truth``."""
    height, width = np.asarray(image).shape[:2]
    longer = max(height, width)
    figure = Figure(figsize=(max(1.0, 8 * width / longer), max(1.0, 8 * height / longer) + 0.4), layout="constrained")
    axes = figure.subplots()
    _draw(axes, image, found, classes)
    axes.set(xticks=[], yticks=[])
    return figure


def _draw(axes: Axes, image: Any, objects: dict[str, Any], classes: Sequence[str]) -> None:
    pixels = np.asarray(image, dtype=np.float64) / 255
    boxes, labels = np.asarray(objects["boxes"]), np.asarray(objects["labels"])
    for number, label in enumerate(labels):
        if "masks" in objects:
            mask = np.asarray(objects["masks"][number], dtype=bool)
            pixels[mask] = 0.5 * pixels[mask] + 0.5 * np.array(_colour(int(label)))
    axes.imshow(pixels, interpolation="nearest")
    for number, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        x1, y1, x2, y2 = box
        frame = Rectangle(
            (x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=_colour(int(label)), linewidth=1.2
        )
        axes.add_patch(frame)
        score = f" {float(objects['scores'][number]):.2f}" if "scores" in objects else ""
        text = f"{classes[int(label)]}{score}"
        axes.text(x1, y1, text, fontsize=6, color="white", va="bottom", backgroundcolor=(0, 0, 0, 0.45))


def _colour(label: int) -> tuple[float, float, float]:
    """Neighbouring classes differ."""
    red, green, blue, _ = colormaps["hsv"]((0.58 + 0.618034 * label) % 1)
    return red, green, blue
