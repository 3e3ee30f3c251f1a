"""COCO's box and mask AP by Paperzoo's evaluation against pycocotools.

1,000 drawn images of 480 x 640 with seven objects of 80 classes each, and 37 detections each: the objects, moved a
little, and boxes of nothing. Interleaved in one process; all are given the same lists. Prints the seconds of each, the
ratio with its spread, and the largest difference between the twelve figures, for each choice of ``data.evaluator``.

    python benchmarks/coco_eval.py [repeats=3] [images=1000]

Goals of the default: boxes at least 8 times, masks at least 3 times faster; figures equal to 1e-9.
"""

import copy
import io
import math
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from paperzoo.detection.coco_ap import BOX, EVALUATORS, MASK, NAMES, coco_ap
from paperzoo.detection.masks import encode_rle

HEIGHT, WIDTH, CLASSES, OBJECTS, DETECTIONS = 480, 640, 80, 7, 37
Image = list[dict[str, Any]]


def boxes(chance: np.random.Generator, count: int) -> np.ndarray:
    """(N, 4): x, y, width, height."""
    sides = np.exp(chance.uniform(np.log(12), np.log(240), (count, 2)))
    corners = chance.uniform(0, 1, (count, 2)) * (np.array([WIDTH, HEIGHT]) - sides)
    return np.concatenate([corners, sides], axis=1)


def codes(own: np.ndarray) -> list[dict[str, Any]]:
    """Run-length codes of the ellipses in boxes."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    left, top, wide, high = own.T[:, :, None, None]
    return encode_rle(((x - left - wide / 2) / wide) ** 2 + ((y - top - high / 2) / high) ** 2 <= 0.25)


def drawn(images: int) -> tuple[list[Image], list[Image]]:
    """Truth and detections."""
    chance = np.random.default_rng(0)
    truth, found = [], []
    for _ in range(images):
        own = boxes(chance, OBJECTS)
        labels = chance.integers(CLASSES, size=DETECTIONS)
        moved = own[np.arange(OBJECTS * 2) % OBJECTS] + chance.normal(0, 3, (OBJECTS * 2, 4))
        detected = np.concatenate([moved, boxes(chance, DETECTIONS - len(moved))]).clip(1)
        labels[OBJECTS : 2 * OBJECTS] = labels[:OBJECTS]
        given = [*zip(codes(own), own, labels[:OBJECTS], strict=True)]
        truth.append([
            {"bbox": b.tolist(), "category_id": int(k), "iscrowd": 0, "area": float(b[2] * b[3]), "segmentation": c}
            for c, b, k in given
        ])  # fmt: skip
        scores = chance.uniform(size=DETECTIONS)
        found.append([
            {"bbox": b.tolist(), "category_id": int(k), "score": float(s), "segmentation": c}
            for c, b, k, s in zip(codes(detected), detected, labels, scores, strict=True)
        ])  # fmt: skip
    return truth, found


def reference(truth: list[Image], found: list[Image], kind: str) -> list[float]:
    """The twelve figures of pycocotools."""
    left_out = "segmentation" if kind == BOX else "bbox"
    objects = [{**one, "image_id": i} for i, own in enumerate(truth) for one in own]
    with redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "images": [{"id": i, "height": HEIGHT, "width": WIDTH} for i in range(len(truth))],
            "annotations": [{**one, "id": number} for number, one in enumerate(objects, 1)],
            "categories": [{"id": k, "name": str(k)} for k in range(CLASSES)],
        }
        known.createIndex()
        results = [
            {key: value for key, value in {**one, "image_id": i}.items() if key != left_out}
            for i, own in enumerate(found)
            for one in own
        ]
        evaluation = COCOeval(known, known.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what it gives."""
    begun = time.perf_counter()
    result = function()
    return time.perf_counter() - begun, result


def main(repeats: int, images: int) -> None:
    truth, found = drawn(images)
    print(f"{images:,} images, {images * OBJECTS:,} objects, {images * DETECTIONS:,} detections, {repeats} repeats")
    sizes = [(HEIGHT, WIDTH)] * images
    for kind in (BOX, MASK):
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in EVALUATORS}
        for _ in range(repeats):
            given = copy.deepcopy((truth, found))  # all add to what they are given
            theirs, expected = timed(lambda given=given, kind=kind: reference(*given, kind))
            gaps = {}
            for name in EVALUATORS:
                ours, figures = timed(lambda kind=kind, name=name: coco_ap(sizes, truth, found, CLASSES, kind, name))
                rounds[name].append((theirs, ours))
                known = [(figures[n], e) for n, e in zip(NAMES, expected, strict=True) if not math.isnan(figures[n])]
                gaps[name] = f"largest difference of {len(known)} figures {max(abs(a - b) for a, b in known):.1e}"
        for name, pairs in rounds.items():
            ratios = [theirs / ours for theirs, ours in pairs]
            print(
                f"  {kind:5} pycocotools {statistics.median(r[0] for r in pairs):6.2f} s, {name:16} "
                f"{statistics.median(r[1] for r in pairs):6.2f} s: {statistics.median(ratios):.1f} times "
                f"({min(ratios):.1f} to {max(ratios):.1f}); {gaps[name]}"
            )


if __name__ == "__main__":
    given = dict(word.split("=") for word in sys.argv[1:])
    main(int(given.get("repeats", 3)), int(given.get("images", 1000)))
