"""Average precision as COCO defines it, over boxes or masks."""

import copy
import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster  # type: ignore[import-untyped]

BOX, MASK = "bbox", "segm"
NAMES = (  # the twelve figures, in COCO's order: AP, AR by most detections an image, by size of the objects
    "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
    "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large",
)  # fmt: skip


def coco_ap(
    images: Sequence[tuple[int, int]],
    truth: Sequence[Sequence[dict[str, Any]]],
    found: Sequence[Sequence[dict[str, Any]]],
    classes: int,
    kind: str = BOX,
) -> dict[str, float]:
    """COCO's twelve figures; NaN where there is nothing that a figure could be about.

    Args:
        images: (height, width) of each image.
        truth: the objects on each: ``bbox`` x, y, width, height; ``category_id`` from 0; ``area``; ``iscrowd``; and for
            masks ``segmentation``, a compressed run-length code.
        found: the detections on each: ``bbox``, ``category_id``, ``score``, and for masks ``segmentation``.
        classes: how many there are; those without objects count in no figure.
        kind: ``bbox`` or ``segm``.
    """
    described = [{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(images)]
    objects = [{**one, "image_id": i} for i, own in enumerate(truth) for one in own]
    objects = [{**copy.copy(one), "id": number} for number, one in enumerate(objects, 1)]
    if not objects:
        return dict.fromkeys(NAMES, float("nan"))
    categories = [{"id": k, "name": str(k)} for k in range(classes)]
    results = [_result({**one, "image_id": i}, kind) for i, own in enumerate(found) for one in own]
    if not results:
        return _nothing(objects, classes)
    with redirect_stdout(io.StringIO()):
        reference = COCO({"images": described, "annotations": objects, "categories": categories})
        evaluation = COCOeval_faster(reference, reference.loadRes(results), kind, print_function=_silent)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = [float(value) for value in evaluation.stats[: len(NAMES)]]
    return {name: value if value >= 0 else float("nan") for name, value in zip(NAMES, figures, strict=True)}


def _result(one: dict[str, Any], kind: str) -> dict[str, Any]:
    """For masks without the box, else the area of a detection would be the box's."""
    return {key: value for key, value in one.items() if key != ("segmentation" if kind == BOX else "bbox")}


def _nothing(objects: list[dict[str, Any]], classes: int) -> dict[str, float]:
    """Of no detections: zero for each figure that has objects."""
    areas = np.array([one["area"] for one in objects if not one["iscrowd"]])
    limits = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
    figures = {}
    for name in NAMES:
        low, high = limits.get(name.rpartition("_")[2], (0, 1e10))
        figures[name] = 0.0 if ((areas >= low) & (areas <= high)).any() else float("nan")
    return figures


def _silent(*_: Any) -> None:
    pass
