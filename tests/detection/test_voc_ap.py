"""VOC's average precision against a loop, and by hand."""

import math

import numpy as np
import pytest

from paperzoo.detection.voc_ap import Curve, area, eleven, voc_ap


def overlap_of(a, b):
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / (a[2] * a[3] + b[2] * b[3] - wide * high)


def naive(truth, found, label, least, points):
    """Lists of (score, right) and sums over them; precision at a recall by looking at every later point."""
    total = sum(1 for own in truth for one in own if one["category_id"] == label and not one["iscrowd"])
    if not total:
        return math.nan
    every = [
        (-one["score"], i, j)
        for i, own in enumerate(found) for j, one in enumerate(own) if one["category_id"] == label
    ]  # fmt: skip
    used, outcomes = set(), []
    for _, i, j in sorted(every):
        candidates = [(overlap_of(found[i][j]["bbox"], one["bbox"]), -n) for n, one in enumerate(truth[i])
                      if one["category_id"] == label]  # fmt: skip
        best, number = max(candidates, default=(-1.0, 0))
        if best < least:
            outcomes.append(False)
        elif not truth[i][-number]["iscrowd"]:
            outcomes.append((i, -number) not in used)
            used.add((i, -number))
    curve = []
    for n in range(1, len(outcomes) + 1):
        hits = sum(outcomes[:n])
        curve.append((hits / total, hits / n))
    if points == "11":
        return sum(max((p for r, p in curve if r >= k / 10), default=0.0) for k in range(11)) / 11
    result, before = 0.0, 0.0
    for n, (r, _) in enumerate(curve):
        result += (r - before) * max(p for _, p in curve[n:])
        before = r
    return result


def scene(seed, images=8, classes=3):
    random = np.random.default_rng(seed)

    def box():
        return [*random.uniform(0, 40, 2).tolist(), *random.uniform(5, 30, 2).tolist()]

    truth, found = [], []
    for _ in range(images):
        objects = [
            {"bbox": box(), "category_id": int(random.integers(classes)), "iscrowd": int(random.uniform() < 0.2)}
            for _ in range(random.integers(0, 7))
        ]
        near = [
            {"bbox": [v + random.normal(0, 2) for v in one["bbox"][:2]] + one["bbox"][2:],
             "category_id": one["category_id"], "score": round(float(random.uniform()), 1)}
            for one in objects * 2 if random.uniform() < 0.7
        ]  # fmt: skip
        other = [
            {"bbox": box(), "category_id": int(random.integers(classes)), "score": round(float(random.uniform()), 1)}
            for _ in range(random.integers(0, 5))
        ]
        truth.append(objects)
        found.append(near + other)
    return truth, found


@pytest.mark.parametrize("points", ["all", "11"])
@pytest.mark.parametrize("seed", range(12))
def test_ap_against_a_loop(seed, points):
    """Crowds, ties in score, objects that are found twice, a fourth class without objects."""
    truth, found = scene(seed)
    for least in (0.3, 0.5, 0.75):
        figures = voc_ap(truth, found, 4, least, points)
        expected = [naive(truth, found, label, least, points) for label in range(4)]
        np.testing.assert_allclose(figures, expected, rtol=0, atol=1e-12)
        assert np.isnan(figures[3])
    assert 0.05 < np.nanmean(voc_ap(truth, found, 4, 0.5, points)) < 0.95


def test_by_hand():
    """Of four objects, right, wrong, right: precision 1, 1/2, 2/3 at recalls 1/4, 1/4, 1/2."""
    curve = Curve(np.array([0.25, 0.25, 0.5]), np.array([1, 1 / 2, 2 / 3]))
    assert area(curve) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert eleven(curve) == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)  # recalls 0 to 0.2, 0.3 to 0.5


def test_an_iou_of_just_the_threshold_is_right():
    truth = [[{"bbox": [0.0, 0, 10, 10], "category_id": 0, "iscrowd": 0}]]
    found = [[{"bbox": [0.0, 0, 10, 5], "category_id": 0, "score": 0.5}]]
    assert voc_ap(truth, found, 1, 0.5) == [1.0]
    assert voc_ap(truth, found, 1, 0.51) == [0.0]
    assert voc_ap(truth, [[]], 1) == [0.0]


def test_wrong_points_are_named():
    with pytest.raises(ValueError, match="points=12: must be one of all, 11"):
        voc_ap([[]], [[]], 1, points="12")
