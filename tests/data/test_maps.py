"""Maps of labels: read as they are stored, cropped and flipped with their images, refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from paperzoo.config import compose
from paperzoo.data.images.augment import crop_and_flip
from paperzoo.data.images.maps import take_apart
from paperzoo.data.images.module import ImageData
from paperzoo.errors import UserError
from paperzoo.tasks.segmentation import IGNORED

DIGITS = ["model=strip_pooling", "data=digit_maps", "data.limit_train=64", "data.batch_size=16"]


def loaded(*words: str, **options) -> ImageData:
    data = ImageData(compose("train", list(words)).data, **options)
    data.setup()
    return data


def test_ink_has_the_digits_label_and_all_else_is_paper():
    data = loaded(*DIGITS)
    planes, classes = data.tensors("test")
    images, labels = take_apart(planes)
    assert data.class_names == ["paper", *"0123456789"]
    expected = torch.where(images[:, 0] >= 128, classes[:, None, None], 0)
    assert torch.equal(labels, expected)
    assert classes.unique().tolist() == list(range(1, 11))  # stratified by digit


def test_a_map_is_cropped_and_flipped_with_its_image_anew_in_each_epoch():
    data = loaded(*DIGITS, "data.augment.flip=0.5", seed=3)
    again = loaded(*DIGITS, "data.augment.flip=0.5", seed=3)
    seen = []
    for epoch in range(2):
        for each in (data, again):
            loader = each.train_dataloader()
            loader.order.set_epoch(epoch)
            planes, classes, uniform, _ = next(iter(loader))
            moved = crop_and_flip(planes, uniform, each.config.augment)
            images, labels = take_apart(moved)
            ink = images[:, 0] >= 128
            assert torch.equal(labels[ink], classes[:, None, None].expand_as(labels)[ink])
            assert set(labels[~ink].unique().tolist()) == {0, IGNORED}  # paper, and what padding has brought in
            padding = (moved[:, 0] == 0) & (labels == IGNORED)
            assert 0 < padding.float().mean() < 0.3
            final = each.on_after_batch_transfer((planes, classes, uniform, None), 0)
            assert torch.equal(final[1], labels)
            seen.append(labels)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], seen[3])
    assert not torch.equal(seen[0], seen[2])


def drawn(root: Path) -> Path:
    """A COCO of six training and four test images, 8 x 6 pixels, whose red is 10 times the class's index."""
    folder = root / "coco_mini"
    (folder / "annotations").mkdir(parents=True)
    names = [{"id": 1, "name": "person"}, {"id": 7, "name": "train"}, {"id": 200, "name": "rug"}]
    (folder / "annotations" / "categories.json").write_text(json.dumps(names))
    generator = np.random.default_rng(0)
    for split, count in (("train2017", 6), ("val2017", 4)):
        for kind in (folder / split, folder / "stuffthingmaps" / split):
            kind.mkdir(parents=True)
        for number in range(count):
            index = np.repeat(np.repeat(generator.integers(0, 4, (3, 4)), 2, 0), 2, 1)
            pixels = np.full((6, 8, 3), 7, np.uint8)
            pixels[..., 0] = 10 * index
            Image.fromarray(pixels).save(folder / split / f"{number:012}.jpg", "PNG")  # lossless
            ids = np.array([0, 1, 7, 200], np.uint8)[index]
            Image.fromarray(ids).save(folder / "stuffthingmaps" / split / f"{number:012}.png")
    return folder


COCO = ["model=strip_pooling", "data=coco_stuff", "data.validation=2", "data.batch_size=2"]


@pytest.mark.parametrize("in_memory", [True, False])
def test_coco_maps_are_read_by_id_and_resized_with_their_images(in_memory, tmp_path):
    drawn(tmp_path)
    data = loaded(*COCO, "data.image_size=6", f"data.in_memory={in_memory}", data_dir=str(tmp_path))
    assert data.class_names == ["person", "train", "rug"]
    assert data.sizes == {"train": 4, "val": 2, "test": 4}
    for planes, *_ in data.test_dataloader():
        images, labels = take_apart(planes)
        assert images.shape[1:] == (3, 6, 6)  # the middle six of eight columns
        expected = images[:, 0].long() // 10 - 1
        assert torch.equal(labels, torch.where(expected < 0, IGNORED, expected))
    assert data.examples(3).shape == (3, 4, 6, 6)
    whole = loaded(*COCO, "data.image_size=12", data_dir=str(tmp_path))
    labels = take_apart(whole.tensors("test")[0])[1]
    assert set(labels.unique().tolist()) == {IGNORED, 0, 1, 2}  # nearest neighbour: no class between two


def test_the_fingerprint_holds_the_maps(tmp_path):
    folder = drawn(tmp_path)
    before = loaded(*COCO, data_dir=str(tmp_path)).fingerprint
    assert loaded(*COCO, data_dir=str(tmp_path)).fingerprint == before
    path = folder / "stuffthingmaps" / "val2017" / f"{0:012}.png"
    ids = np.asarray(Image.open(path)).copy()
    ids[0, 0] = 7 if ids[0, 0] == 1 else 1
    Image.fromarray(ids).save(path)
    assert loaded(*COCO, data_dir=str(tmp_path)).fingerprint != before


def spoil(folder: Path, what: str) -> None:
    path = folder / "stuffthingmaps" / "train2017" / f"{0:012}.png"
    if what == "missing":
        path.unlink()
    elif what == "torn":
        path.write_bytes(path.read_bytes()[:40])
    elif what == "categories":
        (folder / "annotations" / "categories.json").write_text("{")
    else:
        size, value, mode = {"size": ((8, 8), 1, "L"), "value": ((8, 6), 9, "L"), "mode": ((8, 6), 1, "RGB")}[what]
        Image.new(mode, size, value).save(path)


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("missing", "000000000000.png: there is no such file, the map of "),
        ("torn", "its map .*000000000000.png: "),
        ("categories", "categories.json: cannot be read as a list"),
        ("size", "its map .*: is 8x8, the image 8x6; remove it"),
        ("value", "its map .*: holds 9, which is no class; remove it"),
        ("mode", "its map .*: has pixels of kind RGB"),
    ],
)
def test_a_wrong_map_is_one_line(what, line, tmp_path):
    spoil(drawn(tmp_path), what)
    with pytest.raises(UserError, match=line) as error:
        loaded(*COCO, data_dir=str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_wrong_map_can_be_skipped(tmp_path):
    spoil(drawn(tmp_path), "value")
    data = loaded(*COCO, "data.on_error=skip", "data.in_memory=true", data_dir=str(tmp_path))
    assert sum(data.sizes.values()) == 9
    assert sum(data.skipped.values()) == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["model=resnet", "data=digit_maps"], "model=resnet with data=digit_maps: .*; use model=strip_pooling"),
        (["model=strip_pooling", "data=digit_maps", "mix=mixup"], "mix=mixup with data=digit_maps: .*mix=none"),
        (["model=strip_pooling", "data=digit_maps", "data.task=classification"], "data=digit_maps has maps"),
        (["model=strip_pooling", "+data.task=segmentation"], "data=mnist5k has no maps"),
        (["model=strip_pooling", "model.mpms=1"], r"model.mpms=1: only for spnet\*, not for strip_pooling_small"),
        (
            ["model=strip_pooling", "data=coco_stuff", "data.augment.resized_crop=true"],
            "data.augment.resized_crop=true with data=coco_stuff",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(words, line):
    with pytest.raises(UserError, match=line):
        compose("train", words)


def test_a_missing_data_set_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"coco_mini: there is no such folder; set paths.data_dir"):
        loaded(*COCO, data_dir=str(tmp_path))
