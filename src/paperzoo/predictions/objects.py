"""A detector's predictions, by image: what is there and what was found, in COCO's form.

``height`` and ``width`` are those of the stored image in pixels. ``truth`` and ``found`` are JSON, lists of objects,
each with ``bbox`` (x, y, width, height), ``category_id`` (from 0, the place in the classes' names), and either
``iscrowd`` and ``area`` or ``score``. Where the network segments, both have ``segmentation``, a compressed run-length
code.
"""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.text import Text

from paperzoo.detection.coco_ap import Judged, by_class, judge
from paperzoo.display import Display
from paperzoo.predictions.kind import Kind, Rows, percent, show_classes
from paperzoo.tasks.detection import RECORDED, Detection, InstanceSegmentation

SHOWN = {"ap": "AP", "ap50": "AP50"}  # figures of a class
Images = list[list[dict[str, Any]]]  # the objects of each


class Objects(Kind):
    """See above."""

    columns = ("height", "width", "truth", "found")
    # A run may have counted with another evaluator than the file does.
    rounded = tuple(f"{name}_{figure}" for name in InstanceSegmentation.kinds for figure in RECORDED)

    def rows(self, given: Any, classes: int) -> Rows:
        """See ``Kind``; given is (height, width), truth and detections of each image."""
        sizes, *objects = zip(*given, strict=True)
        texts = [[json.dumps(own, default=bytes.decode) for own in part] for part in objects]  # bytes: codes of masks
        return dict(zip(self.columns, [*torch.tensor(sizes).unbind(1), *texts], strict=True))

    def metrics_of(self, batches: Sequence[Rows], classes: int) -> dict[str, float]:
        """See ``Kind``; by the same code as in an evaluation."""
        return {
            f"{name}_{figure}": value
            for name, judged in _judged(batches, *_read(batches), classes).items()
            for figure, value in judged.figures.items()
            if figure in RECORDED and not math.isnan(value)
        }

    def show(self, display: Display, batches: Sequence[Rows], names: Sequence[str]) -> None:
        """See ``Kind``."""

        def cells(row: OfClass) -> list[str | Text]:
            return [f"{row.objects:,}", f"{row.detections:,}", *map(percent, row.figures.values())]

        rows = of_classes(batches, names)
        first, *_ = titles = list(rows[0].figures)
        columns = ("class", "objects", "detections", *titles)
        show_classes(display, columns, rows, (first, lambda row: row.figures[first]), cells)


class OfClass(NamedTuple):
    """A row of the table of classes."""

    index: int  # type: ignore[assignment]  # not the method of tuples
    name: str
    objects: int  # without crowds
    detections: int
    figures: dict[str, float]  # by title; NaN without objects


def of_classes(batches: Sequence[Rows], names: Sequence[str]) -> list[OfClass]:
    """What a split's predictions say of each class."""
    count = len(names)
    truth, found = _read(batches)
    objects, detections = (
        np.bincount([one["category_id"] for own in part for one in own if not one.get("iscrowd")], minlength=count)
        for part in (truth, found)
    )
    figures = {
        f"{name} {title}": by_class(judged.precision)[figure]
        for name, judged in _judged(batches, truth, found, count).items()
        for figure, title in SHOWN.items()
    }
    return [
        OfClass(k, str(name), int(objects[k]), int(detections[k]), {key: float(own[k]) for key, own in figures.items()})
        for k, name in enumerate(names)
    ]


def _judged(batches: Sequence[Rows], truth: Images, found: Images, classes: int) -> dict[str, Judged]:
    """By the start of a metric's name. Objects have masks where the network segments."""
    height, width = (torch.cat([batch[name] for batch in batches]).tolist() for name in ("height", "width"))
    sizes = list(zip(height, width, strict=True))
    segments = any("segmentation" in one for own in truth for one in own)
    kinds = (InstanceSegmentation if segments else Detection).kinds
    return {name: judge(sizes, truth, found, classes, kind) for name, kind in kinds.items()}


def _read(batches: Sequence[Rows]) -> tuple[Images, Images]:
    """Truth and detections."""
    truth, found = ([json.loads(text) for batch in batches for text in batch[name]] for name in ("truth", "found"))
    return truth, found
