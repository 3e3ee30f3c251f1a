"""Average precision against pycocotools."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from paperzoo.detection.coco_ap import BOX, EVALUATORS, MASK, NAMES, by_class, coco_ap, judge
from paperzoo.detection.masks import encode_rle

SIZE = (60, 80)


def scene(seed, images=12, classes=4, crowds=True):
    """Objects and detections, some of them right; images without either; ties in score."""
    random = np.random.default_rng(seed)
    truth, found = [], []

    def shape():
        x, y = random.integers(0, 50), random.integers(0, 40)
        w, h = random.integers(3, 28, 2)
        mask = np.zeros(SIZE, bool)
        mask[y : min(y + h, 60), x : min(x + w, 80)] = (
            random.uniform(size=(min(y + h, 60) - y, min(x + w, 80) - x)) > 0.02
        )
        return [float(x), float(y), float(w), float(h)], mask

    for _ in range(images):
        objects, detections = [], []
        for _ in range(random.integers(0, 7)):
            box, mask = shape()
            label = int(random.integers(classes))
            crowd = int(crowds and random.uniform() < 0.15)
            objects.append({"bbox": box, "category_id": label, "iscrowd": crowd, "area": float(mask.sum() * 9),
                            "segmentation": encode_rle(mask[None])[0]})  # fmt: skip
            if random.uniform() < 0.8:
                moved = [value + random.uniform(-2, 2) for value in box[:2]] + box[2:]
                detections.append((moved, np.roll(mask, random.integers(-2, 3), axis=1), label))
        detections += [(*shape(), int(random.integers(classes))) for _ in range(random.integers(0, 5))]
        truth.append(objects)
        found.append([
            {"bbox": box, "category_id": label, "score": round(float(random.uniform()), 1),
             "segmentation": encode_rle(mask[None])[0]}
            for box, mask, label in detections
        ])  # fmt: skip
    return truth, found


def pycocotools(truth, found, classes, kind):
    reference = COCO()
    objects = [{**one, "image_id": i} for i, own in enumerate(truth) for one in own]
    with contextlib.redirect_stdout(io.StringIO()):
        reference.dataset = {
            "info": {},
            "images": [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in range(len(truth))],
            "annotations": [{**one, "id": number} for number, one in enumerate(objects, 1)],
            "categories": [{"id": k} for k in range(classes)],
        }
        reference.createIndex()
        drop = "segmentation" if kind == BOX else "bbox"
        results = [
            {**{k: v for k, v in one.items() if k != drop}, "image_id": i} for i, own in enumerate(found) for one in own
        ]
        evaluation = COCOeval(reference, reference.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [value if value >= 0 else float("nan") for value in evaluation.stats]


@pytest.mark.parametrize("evaluator", EVALUATORS)
@pytest.mark.parametrize("kind", [BOX, MASK])
@pytest.mark.parametrize("seed", range(4))
def test_ap_is_pycocotools(seed, kind, evaluator, capfd):
    truth, found = scene(seed, crowds=seed % 2 == 0)
    figures = coco_ap([SIZE] * len(truth), truth, found, 4, kind, evaluator)
    assert capfd.readouterr() == ("", "")
    expected = pycocotools(truth, found, 4, kind)
    assert list(figures) == list(NAMES)
    np.testing.assert_allclose(list(figures.values()), expected, rtol=0, atol=1e-9)
    assert 0.05 < figures["ap"] < 0.95


def test_both_evaluators_give_the_same_curves():
    truth, found = scene(2)
    one, other = (judge([SIZE] * len(truth), truth, found, 5, MASK, name).precision for name in EVALUATORS)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


def test_ap_of_nothing():
    truth, found = scene(0)
    none = [[] for _ in truth]
    assert coco_ap([SIZE] * len(truth), truth, none, 4)["ap"] == 0
    assert all(np.isnan(value) for value in coco_ap([SIZE] * len(truth), none, found, 4).values())


@pytest.mark.parametrize("kind", [BOX, MASK])
def test_classes_alone_have_the_ap_that_pycocotools_gives_them(kind):
    """Each class evaluated by itself; the mean over those with objects is the figure of all."""
    truth, found = scene(1)
    judged = judge([SIZE] * len(truth), truth, found, 5, kind)
    figures = by_class(judged.precision)
    for label in range(4):
        alone = [[[one for one in own if one["category_id"] == label] for own in part] for part in (truth, found)]
        expected = dict(zip(NAMES, pycocotools(*alone, 4, kind), strict=True))
        for name, values in figures.items():
            np.testing.assert_allclose(values[label], expected[name], rtol=0, atol=1e-9, err_msg=f"{label} {name}")
    for name, values in figures.items():
        assert np.isnan(values[4])
        known = values[~np.isnan(values)]
        assert (known.mean() if len(known) else np.nan) == pytest.approx(judged.figures[name], abs=1e-9, nan_ok=True)


def test_classes_of_no_detections():
    truth, _ = scene(0)
    judged = judge([SIZE] * len(truth), truth, [[] for _ in truth], 5)
    present = {one["category_id"] for own in truth for one in own if not one["iscrowd"]}
    assert judged.precision.shape == (10, 101, 5, 4)
    assert [k for k in range(5) if not np.isnan(by_class(judged.precision)["ap"][k])] == sorted(present)
    assert np.nansum(judged.precision) == 0
    areas = [one["area"] for own in truth for one in own if not one["iscrowd"]]
    assert not any(area > 96**2 for area in areas)
    assert np.isnan(judged.figures["ap_large"])
    assert judged.figures["ap_small"] == 0
