"""Average precision as COCO defines it, over boxes or masks."""

import copy
import importlib
import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any, NamedTuple

import numpy as np

BOX, MASK = "bbox", "segm"
DEFAULT = "faster_coco_eval"
EVALUATORS = {DEFAULT: "COCOeval_faster", "hotcoco": "COCOeval"}  # packages, with pycocotools' interface: C++, Rust
NAMES = (  # the twelve figures, in COCO's order: AP, AR by most detections an image, by size of the objects
    "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
    "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large",
)  # fmt: skip


IOUS = np.arange(10, 20) / 20  # 0.5, 0.55, ..., 0.95
RECALLS = np.arange(101) / 100
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


class Judged(NamedTuple):
    """What COCO's evaluation says.

    Attributes:
        figures: the twelve, by name; NaN where there is nothing that a figure could be about.
        precision: (10, 101, K, 4): the best precision from a recall on, by ``IOUS``, ``RECALLS``, class, ``AREAS``; NaN
            where a class has no object of such an area.
    """

    figures: dict[str, float]
    precision: np.ndarray


def coco_ap(
    images: Sequence[tuple[int, int]],
    truth: Sequence[Sequence[dict[str, Any]]],
    found: Sequence[Sequence[dict[str, Any]]],
    classes: int,
    kind: str = BOX,
    evaluator: str = DEFAULT,
) -> dict[str, float]:
    """COCO's twelve figures; NaN where there is nothing that a figure could be about. Arguments: see ``judge``."""
    return judge(images, truth, found, classes, kind, evaluator).figures


def judge(
    images: Sequence[tuple[int, int]],
    truth: Sequence[Sequence[dict[str, Any]]],
    found: Sequence[Sequence[dict[str, Any]]],
    classes: int,
    kind: str = BOX,
    evaluator: str = DEFAULT,
) -> Judged:
    """COCO's twelve figures, and the curves that they are means of.

    Args:
        images: (height, width) of each image.
        truth: the objects on each: ``bbox`` x, y, width, height; ``category_id`` from 0; ``area``; ``iscrowd``; and for
            masks ``segmentation``, a compressed run-length code.
        found: the detections on each: ``bbox``, ``category_id``, ``score``, and for masks ``segmentation``.
        classes: how many there are; those without objects count in no figure.
        kind: ``bbox`` or ``segm``.
        evaluator: the package that counts, one of ``EVALUATORS``; all give pycocotools' figures.
    """
    described = [{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(images)]
    objects = [{**one, "image_id": i} for i, own in enumerate(truth) for one in own]
    objects = [{**copy.copy(one), "id": number} for number, one in enumerate(objects, 1)]
    if not objects:
        return Judged(dict.fromkeys(NAMES, float("nan")), np.full((len(IOUS), len(RECALLS), classes, 4), np.nan))
    categories = [{"id": k, "name": str(k)} for k in range(classes)]
    results = [_result({**one, "image_id": i}, kind) for i, own in enumerate(found) for one in own]
    if not results:
        return _nothing(objects, classes)
    with redirect_stdout(io.StringIO()):
        package = importlib.import_module(evaluator)
        reference = package.COCO({"images": described, "annotations": objects, "categories": categories})
        evaluation = getattr(package, EVALUATORS[evaluator])(reference, reference.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = [float(value) for value in evaluation.stats[: len(NAMES)]]
    precision = np.array(evaluation.eval["precision"], dtype=np.float64)[..., -1]  # of at most 100 detections an image
    return Judged(
        {name: value if value >= 0 else float("nan") for name, value in zip(NAMES, figures, strict=True)},
        np.where(precision < 0, np.nan, precision),
    )


def by_class(precision: np.ndarray) -> dict[str, np.ndarray]:
    """AP of each class (K,), of ``Judged.precision``: ``ap``, ``ap50``, ``ap75``, ``ap_small`` and so on.

    NaN for a class without such objects. The mean over the classes that have a number is COCO's figure.
    """
    curves = precision.mean(axis=1)  # (10, K, 4)
    areas = {f"ap_{name}": curves[:, :, i].mean(axis=0) for i, name in enumerate(AREAS) if i}
    return {"ap": curves[:, :, 0].mean(axis=0), "ap50": curves[0, :, 0], "ap75": curves[5, :, 0], **areas}


def _result(one: dict[str, Any], kind: str) -> dict[str, Any]:
    """For masks without the box, else the area of a detection would be the box's."""
    return {key: value for key, value in one.items() if key != ("segmentation" if kind == BOX else "bbox")}


def _nothing(objects: list[dict[str, Any]], classes: int) -> Judged:
    """Of no detections: zero wherever there are objects."""
    precision = np.full((len(IOUS), len(RECALLS), classes, len(AREAS)), np.nan)
    present = {}
    for i, (name, (low, high)) in enumerate(AREAS.items()):
        own = [one["category_id"] for one in objects if not one["iscrowd"] and low <= one["area"] <= high]
        precision[:, :, own, i] = 0.0
        present[name] = bool(own)
    figures = {}
    for name in NAMES:
        size = name.rpartition("_")[2]
        figures[name] = 0.0 if present.get(size, present["all"]) else float("nan")
    return Judged(figures, precision)
