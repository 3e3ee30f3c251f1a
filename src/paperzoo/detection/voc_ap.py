"""Average precision as Pascal VOC's development kit defines it, over boxes, at one IoU."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

Array = np.ndarray
Image = list[dict[str, Any]]
Images = Sequence[Sequence[dict[str, Any]]]
Points = Literal["all", "11"]
ELEVEN = np.arange(11) / 10  # recalls
POINTS = ("all", "11")


class Curve(NamedTuple):
    """Of one class, after each detection that counts, best first: (N,) and (N,)."""

    recall: Array
    precision: Array


def voc_ap(truth: Images, found: Images, classes: int, overlap: float = 0.5, points: Points = "all") -> Array:
    """Average precision of each class (K,); NaN for a class without objects.

    Args:
        truth, found, classes, overlap: see ``voc_curves``.
        points: ``all``: the area below the curve whose precision at a recall is the largest from there on (VOC 2010
            and later); ``11``: the mean of those at recalls 0, 0.1, ..., 1 (VOC 2007).

    Raises:
        ValueError: ``points`` is neither.
    """
    if points not in POINTS:
        raise ValueError(f"points={points}: must be one of {', '.join(POINTS)}")
    ap = area if points == "all" else eleven
    return np.array([ap(curve) if curve else np.nan for curve in voc_curves(truth, found, classes, overlap)])


def voc_curves(truth: Images, found: Images, classes: int, overlap: float = 0.5) -> list[Curve | None]:
    """Recall and precision of each class; None for a class without objects.

    The detections of a class, over all images, best first: each looks at the object of its class and image that it
    overlaps most. It is right if the IoU is at least ``overlap`` and no better one has found this object; it does not
    count if this object is a crowd (VOC's ``difficult``); else it is wrong. Of equal scores, the earlier is the better;
    of objects with equal IoU, the earlier is looked at. The kit's widths, of whole pixels, are one more than these.

    Args:
        truth: the objects on each image: ``bbox`` x, y, width, height; ``category_id`` from 0; ``iscrowd``.
        found: the detections on each: ``bbox``, ``category_id``, ``score``.
        classes: K.
        overlap: IoU, inclusive.
    """
    objects: list[dict[int, Image]] = [{} for _ in range(classes)]  # of each class by image
    for image, own in enumerate(truth):
        for one in own:
            objects[one["category_id"]].setdefault(image, []).append(one)
    rows: list[list[tuple[int, dict[str, Any]]]] = [[] for _ in range(classes)]
    for image, own in enumerate(found):
        for one in own:
            rows[one["category_id"]].append((image, one))
    return [_of_class(objects[k], rows[k], overlap) for k in range(classes)]


def _of_class(objects: dict[int, Image], rows: list[tuple[int, dict[str, Any]]], overlap: float) -> Curve | None:
    count = sum(not one["iscrowd"] for own in objects.values() for one in own)
    if not count:
        return None
    taken = {image: np.zeros(len(own), dtype=bool) for image, own in objects.items()}
    right = []  # 1 or 0 for each that counts
    for row in np.argsort([-one["score"] for _, one in rows], kind="stable"):
        image, one = rows[row]
        best, which = _most(one["bbox"], objects.get(image, []))
        if best < overlap:
            right.append(0)
        elif not objects[image][which]["iscrowd"]:
            right.append(int(not taken[image][which]))
            taken[image][which] = True
    hits = np.cumsum(right)
    return Curve(hits / count, hits / np.arange(1, len(right) + 1))


def _most(box: Sequence[float], objects: Sequence[dict[str, Any]]) -> tuple[float, int]:
    """The largest IoU with an object, and which it is."""
    if not objects:
        return -1.0, 0
    x, y, w, h = np.array([one["bbox"] for one in objects], dtype=np.float64).T
    wide = np.minimum(x + w, box[0] + box[2]) - np.maximum(x, box[0])
    high = np.minimum(y + h, box[1] + box[3]) - np.maximum(y, box[1])
    common = wide.clip(0) * high.clip(0)
    union = w * h + box[2] * box[3] - common
    overlaps = common / np.where(union > 0, union, 1)
    which = int(overlaps.argmax())
    return float(overlaps[which]), which


def area(curve: Curve) -> float:
    """The area below a curve whose precision at a recall is made the largest from there on."""
    from_here = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return float((np.diff(curve.recall, prepend=0.0) * from_here).sum())


def eleven(curve: Curve) -> float:
    """The mean of the largest precision from each of eleven recalls on; zero where the curve does not reach."""
    return float(np.mean([curve.precision[curve.recall >= point].max(initial=0.0) for point in ELEVEN]))
