"""Odd images of a detection data set: each detector trains on them and is judged on them, and no object is lost.

Corrupt and missing files are in ``test_detection_data.py``.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from paperzoo.config import compose
from paperzoo.data.interface import make_data
from paperzoo.errors import RunError
from paperzoo.tasks.making import make_module

SMALL = {
    "faster_rcnn": ["model.channels=8", "model.hidden=16", "model.regions=8", "model.proposals=20"],
    "mask_rcnn": ["model.channels=8", "model.hidden=16", "model.regions=8", "model.proposals=20"],
    "ssd": ["model.channels=8", "model.image_size=64"],
    "retinanet": ["model.channels=8"],
}
GREY = np.arange(24 * 36).reshape(24, 36) % 251
TURNED = 6  # EXIF: the stored picture is to be turned right by 90 degrees


def crowded():
    """500 boxes of 2 x 2 on 50 x 40 pixels."""
    return [[2 * (i % 25), 2 * (i // 25), 2, 2] for i in range(500)]


def save(folder):
    """Each image's name, (height, width) as it is seen, and boxes."""
    Image.new("RGB", (40, 30), (90, 9, 9)).save(folder / "empty.png")
    Image.new("RGB", (50, 40), (9, 90, 9)).save(folder / "crowded.png")
    Image.new("RGB", (30, 1), (9, 9, 90)).save(folder / "line.png")
    Image.fromarray(GREY.astype(np.uint8)).save(folder / "grey.png")
    Image.fromarray((GREY * 256).astype(np.uint16)).save(folder / "deep.png")
    stored = Image.new("RGB", (40, 20))
    stored.paste((255, 255, 255), (0, 0, 20, 10))  # its upper left corner, the upper right one once it is turned
    exif = Image.Exif()
    exif[0x0112] = TURNED
    stored.save(folder / "turned.png", exif=exif)
    return [
        ("empty.png", (30, 40), []),
        ("crowded.png", (40, 50), crowded()),
        ("line.png", (1, 30), [[3, 0, 12, 1]]),
        ("grey.png", (24, 36), [[2, 2, 20, 16]]),
        ("deep.png", (24, 36), [[2, 2, 20, 16]]),
        ("turned.png", (40, 20), [[10, 0, 10, 20]]),
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """COCO's layout; training and test images are the same."""
    root = tmp_path_factory.mktemp("odd")
    (root / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        (root / split).mkdir()
        images, annotations = [], []
        for number, (name, (height, width), boxes) in enumerate(save(root / split), 1):
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            annotations += [
                {"id": len(annotations) + i, "image_id": number, "category_id": 1, "bbox": box, "iscrowd": 0,
                 "area": box[2] * box[3]}
                for i, box in enumerate(boxes, 1)
            ]  # fmt: skip
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def configured(root, paper, *words):
    return compose(
        "train",
        [f"model={paper}", *SMALL[paper], "data=coco", f"data.root={root}", "data.workers=0", "data.batch_size=5",
         "data.validation=1", "data.shorter=null", "data.longer=null", "data.flip=0.0", "logger=none", *words],
    )  # fmt: skip


def test_what_is_read_is_what_is_seen(root):
    data = make_data(configured(root, "ssd"))
    split = data.source.train
    by_name = {entry.path.name: split.read(i) for i, entry in enumerate(split.entries)}
    assert by_name["line.png"].image.shape == (3, 1, 30)
    assert by_name["line.png"].masks.sum() == 12
    assert len(by_name["crowded.png"].boxes) == 500
    assert by_name["crowded.png"].masks.sum() == 2000  # disjoint
    assert by_name["empty.png"].masks.shape == (0, 30, 40)
    for name in ("grey.png", "deep.png"):
        assert np.array_equal(by_name[name].image, np.broadcast_to(GREY, (3, 24, 36))), name
    turned = by_name["turned.png"]
    assert turned.image.shape == (3, 40, 20)
    white = turned.image[0] == 255
    assert np.array_equal(white, turned.masks[0])  # the box is around it


@pytest.mark.parametrize("paper", SMALL)
def test_detectors_train_on_them_and_are_judged(root, paper):
    config = configured(root, paper)
    data = make_data(config)
    module = make_module(config, data)
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    total = sum(module.losses(batch).values())
    total.backward()
    assert total.isfinite()
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)
    module.eval()
    for loaded in data.test_dataloader():
        module.evaluate(data.on_after_batch_transfer(loaded, 0))
    assert sum(len(truth) for _, truth, _ in module.collected) == 504  # none is lost
    for (height, width), _, found in module.collected:
        corners = torch.tensor([one["bbox"] for one in found]).reshape(-1, 4)
        assert (corners[:, 0] + corners[:, 2] <= width + 1e-3).all()
        assert (corners[:, 1] + corners[:, 3] <= height + 1e-3).all()
    results = module.compute("val")
    assert 0 <= results["box_ap"] <= 1


def test_an_annotation_of_the_stored_picture_before_it_is_turned_is_refused(root, tmp_path):
    """Its boxes would be at wrong places."""
    content = json.loads((root / "annotations" / "instances_val2017.json").read_text())
    content["images"] = [
        {**one, "height": 20, "width": 40} for one in content["images"] if one["file_name"] == "turned.png"
    ]
    number = content["images"][0]["id"]
    content["annotations"] = [
        {**one, "bbox": [0, 0, 20, 10]} for one in content["annotations"] if one["image_id"] == number
    ]
    (tmp_path / "annotations").mkdir()
    for name in ("train2017", "val2017"):
        (tmp_path / name).symlink_to(root / name)
    train = (root / "annotations" / "instances_train2017.json").read_text()
    (tmp_path / "annotations" / "instances_train2017.json").write_text(train)
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    data = make_data(configured(tmp_path, "ssd"))
    with pytest.raises(RunError, match=r"turned\.png: is 40x20, its annotations say 20x40"):
        list(data.test_dataloader())
