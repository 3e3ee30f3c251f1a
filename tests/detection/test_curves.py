"""The tables and the picture of a detection run's curves."""

import csv

import numpy as np
import pytest

from paperzoo.detection.coco_ap import judge
from paperzoo.detection.curves import AP_FILE, CURVES_FILE, OfSplit, precision_recall, write

CLASSES = ["cat", "dog", "owl"]


@pytest.fixture
def tested():
    """A cat that is found, one that is found too low, a dog that is missed; no owl."""
    truth = [
        [{"bbox": [0.0, 0, 40, 40], "category_id": 0, "area": 1600.0, "iscrowd": 0}],
        [{"bbox": [0.0, 0, 10, 10], "category_id": 0, "area": 100.0, "iscrowd": 0},
         {"bbox": [30.0, 30, 10, 10], "category_id": 1, "area": 100.0, "iscrowd": 0}],
    ]  # fmt: skip
    found = [
        [{"bbox": [0.0, 0, 40, 40], "category_id": 0, "score": 0.9}],
        [{"bbox": [0.0, 4, 10, 10], "category_id": 0, "score": 0.8}],  # IoU 3/7
    ]
    judged = judge([(64, 64)] * 2, truth, found, 3)
    return OfSplit({"box": judged.precision}, truth, found)


def test_tables(tested, tmp_path):
    write(tmp_path, tested, CLASSES)
    with (tmp_path / AP_FILE).open() as file:
        cat, dog, owl, mean = csv.DictReader(file)
    share = 51 / 101  # recalls up to 0.5
    assert float(cat["ap"]) == pytest.approx(share, abs=1e-5)
    assert (float(cat["ap_small"]), float(cat["ap_medium"]), cat["ap_large"]) == (0, 1, "")
    assert (float(cat["voc_ap"]), float(cat["voc_ap11"])) == pytest.approx((0.5, 6 / 11), abs=1e-5)
    assert (cat["kind"], cat["class"], cat["objects"], dog["objects"], owl["objects"]) == ("box", "cat", "2", "1", "0")
    assert (float(dog["ap"]), owl["ap"], owl["voc_ap"]) == (0, "", "")
    assert (mean["class"], mean["objects"]) == ("mean", "3")
    assert float(mean["ap"]) == pytest.approx(share / 2, abs=1e-5)
    assert float(mean["voc_ap"]) == 0.25
    with (tmp_path / CURVES_FILE).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 10
    assert [rows[0][f"recall_{r}"] for r in ("0.00", "0.50", "0.51", "1.00")] == ["1", "1", "0", "0"]
    assert (rows[0]["iou"], rows[9]["iou"], rows[29]["recall_0.00"]) == ("0.50", "0.95", "")


def test_picture_has_a_curve_for_each_class_with_objects(tested):
    left, right = precision_recall(tested.curves["box"], CLASSES).axes
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["cat: 0.505", "dog: 0.000"]
    assert len(left.lines) == 5
    np.testing.assert_allclose(left.lines[0].get_ydata()[[0, 50, 51]], [0.5, 0.5, 0])
    empty = precision_recall(np.full((10, 101, 3, 4), np.nan), CLASSES)
    assert not any(axes.lines for axes in empty.axes)
