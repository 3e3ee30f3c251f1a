"""Detection data: what the drawn images hold, COCO's format and its mistakes, changes of images with their objects."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as pycoco

from paperzoo.config import compose
from paperzoo.data.detection.coco import mask_of, read_annotations
from paperzoo.data.detection.digits import box_of
from paperzoo.data.detection.transforms import flip, padded, resize, scaled_size
from paperzoo.data.images.decoding import CorruptImage
from paperzoo.data.images.loaders import Key
from paperzoo.data.interface import make_data
from paperzoo.errors import RunError, UserError

WORDS = ["model=faster_rcnn", "logger=none", "data.images=24"]


def made(*words):
    return make_data(compose("train", [*WORDS, *words]))


@pytest.fixture(scope="module")
def digits():
    return made()


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(digits):
    again, other = made(), made("data.draw_seed=1")
    assert digits.fingerprint == again.fingerprint != other.fingerprint
    assert np.array_equal(digits.source.train.images, again.source.train.images)
    fewer = made("data.images=12")
    assert np.array_equal(fewer.source.train.images, digits.source.train.images[:12])
    assert digits.sizes == {"train": 24, "val": 4, "test": 4}


def test_masks_are_exact_disjoint_and_in_their_boxes(digits):
    seen = 0
    for row in range(24):
        sample = digits.source.train.read(row)
        assert sample.masks.sum(axis=0).max() <= 1
        for mask, box, label, area in zip(sample.masks, sample.boxes, sample.labels, sample.areas, strict=True):
            y, x = np.nonzero(mask)
            assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1] == list(box_of(mask))
            assert area == mask.sum() >= 30
            assert (sample.semantic[mask] == label).all()
            seen += 1
        ground = ~sample.masks.any(axis=0)
        assert ((sample.semantic[ground] >= 10) & (sample.semantic[ground] < 14)).all()
    assert seen > 40


def test_overlap_is_controlled():
    """Without overlap no digit hides another: each has as many pixels as its ink."""
    apart, close = made("data.overlap=0", "data.objects=[4,4]"), made("data.overlap=0.9", "data.objects=[4,4]")

    def touching(data):
        return sum(
            bool((sample.masks[i] & sample.masks[j]).any()) or _boxes_meet(sample.boxes[i], sample.boxes[j])
            for sample in map(data.source.train.read, range(24))
            for i in range(len(sample.labels))
            for j in range(i)
        )

    assert touching(close) > 2 * touching(apart)


def _boxes_meet(a, b):
    return min(a[2], b[2]) - max(a[0], b[0]) > 4 and min(a[3], b[3]) - max(a[1], b[1]) > 4


def test_batches_repeat_by_seed_and_epoch_and_go_on_within_one(digits):
    first = list(digits.train_dataloader())
    again = list(digits.train_dataloader())
    assert len(first) == 3
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[2], other[2])
    resumed = made()
    resumed.load_state_dict({"position": {"epoch": 0, "done": 2}})
    (last,) = list(resumed.train_dataloader())
    assert torch.equal(last[2], first[2][2])
    loader = digits.train_dataloader()
    loader.order.set_epoch(1)
    assert not torch.equal(next(iter(loader))[2], first[0][2])


def test_normalisation_leaves_padding_zero(digits):
    images = torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)
    found = digits.normalise(images, [{"size": (40, 50)}])
    assert found[0, :, :40, :50].unique().tolist() == [pytest.approx((1 - 0.35) / 0.25)]
    assert not found[0, :, 40:].any()
    assert not found[0, :, :, 50:].any()


def test_resizing_and_flipping_move_objects_with_their_image():
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    image[:, 10:20, 6:30] = 255
    mask = image[:1] > 0
    target = {"boxes": torch.tensor([[6.0, 10, 30, 20]]), "masks": mask, "semantic": mask[0].to(torch.uint8) * 7}
    for height, width in ((80, 120), (20, 30), (80, 60)):
        big, moved = resize(image, target, (height, width))
        assert moved["boxes"].tolist() == [[6 * width / 60, 10 * height / 40, 30 * width / 60, 20 * height / 40]]
        x1, y1, x2, y2 = moved["boxes"][0].long().tolist()
        expected = torch.zeros(height, width, dtype=torch.bool)
        expected[y1:y2, x1:x2] = True
        assert torch.equal(moved["masks"][0], expected)
        assert torch.equal(moved["semantic"], expected.to(torch.uint8) * 7)
        assert big.shape == (3, height, width)
    mirrored, moved = flip(image, target)
    assert moved["boxes"].tolist() == [[30, 10, 54, 20]]
    assert torch.equal(mirrored > 0, moved["masks"].expand(3, -1, -1))
    assert box_of(moved["masks"][0].numpy()) == (30, 10, 54, 20)
    assert torch.equal(moved["semantic"] == 7, moved["masks"][0])


def test_sizes_by_hand():
    assert scaled_size((480, 640), 800, 1333) == (800, 1067)
    assert scaled_size((400, 1000), 800, 1333) == (533, 1333)
    assert scaled_size((480, 640), None, None) == (480, 640)
    assert scaled_size((1, 500), 10, 100) == (1, 100)
    batch = padded([torch.ones(3, 33, 20), torch.ones(3, 10, 64)], 32)
    assert batch.shape == (2, 3, 64, 64)
    assert batch.sum() == 3 * (33 * 20 + 640)


HELD_OUT = "data.split_seed=0"  # c.png
SQUARE = [[2.0, 2.0, 12.0, 2.0, 12.0, 10.0, 2.0, 10.0]]


def annotation(number, **changes):
    own = {"id": number, "image_id": 1, "category_id": 7, "bbox": [2, 2, 10, 8], "area": 80, "iscrowd": 0}
    return {**own, "segmentation": SQUARE, **changes}


def written(folder, annotations, images=None):
    """COCO's layout with two images of training, one of them empty, and one of val2017."""
    for split in ("train2017", "val2017"):
        (folder / split).mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for name in ("train2017/a.png", "train2017/b.png", "train2017/c.png", "val2017/v.png"):
        Image.new("RGB", (30, 20), (9, 9, 9)).save(folder / name)
    entries = [{"id": i, "file_name": f"{n}.png", "height": 20, "width": 30} for i, n in enumerate("abc", 1)]
    categories = [{"id": 7, "name": "cat"}, {"id": 3, "name": "ant"}]
    content = {"images": images or entries, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    content = {"images": [{"id": 1, "file_name": "v.png", "height": 20, "width": 30}], "annotations": [annotation(1)],
               "categories": categories}  # fmt: skip
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return ["data=coco", f"data.root={folder}", "data.batch_size=1", "data.validation=1", "data.workers=0"]


def coco(*words):
    return make_data(compose("train", ["model=faster_rcnn", "logger=none", *words]))


def test_coco_is_read(tmp_path):
    counts = [0, 45, 5, 550]  # column after column: two columns and a bit, then five pixels
    crowd = annotation(2, category_id=3, iscrowd=1, segmentation={"size": [20, 30], "counts": counts})
    data = coco(*written(tmp_path, [annotation(1), crowd]), "data.shorter=[40]", "data.flip=0.0")
    assert data.class_names == ["ant", "cat"]
    assert data.sizes == {"train": 2, "val": 1, "test": 1}
    sample = data.source.train.read(0)
    assert sample.boxes.tolist() == [[2, 2, 12, 10]] * 2
    assert (sample.labels.tolist(), sample.crowd.tolist()) == ([1, 0], [False, True])
    expected = np.zeros((20, 30), bool)
    expected[2:10, 2:12] = True
    assert np.array_equal(sample.masks[0], expected)
    code = pycoco.frPyObjects({"size": [20, 30], "counts": counts}, 20, 30)
    assert np.array_equal(sample.masks[1], pycoco.decode(code).astype(bool))
    assert len(data.source.train.read(1).labels) == 0
    sample = data._loader("train", 1, train=True).dataset._trained(sample, Key(0, 0))[1]
    assert sample["boxes"].tolist() == [[4, 4, 24, 20]]  # twice as large, without the crowd
    (batch,) = list(data.test_dataloader())
    target = batch[1][0]
    assert (target["size"], target["original"]) == ((40, 60), (20, 30))
    assert target["truth"][0]["bbox"] == [2, 2, 10, 8]


def test_an_object_without_mask_is_its_box():
    mask = mask_of({"bbox": [1, 2, 3, 4]}, 10, 10)
    assert box_of(mask) == (1, 2, 4, 6)
    assert mask.sum() == 12


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"bbox": [2, 2, 0, 8]}, "1 without area"),
        ({"area": 0}, "1 without area"),
        ({"bbox": [25, 2, 10, 8]}, "1 outside the image"),
        ({"image_id": 9}, "1 of an image that is not there"),
        ({"category_id": 5}, "1 of an unknown category"),
        ({"bbox": [float("nan"), 2, 10, 8]}, "1 with numbers that are not finite"),
        ({"bbox": [1, 2, 3]}, "1 with numbers that are not finite"),
        ({"id": 1}, "1 id that stands twice"),
        ({"segmentation": {"size": [9, 9], "counts": [81]}}, "1 with a mask of another size"),
        ({"segmentation": [[1.0, 2.0]]}, "1 with polygons that are none"),
        ({"segmentation": [["a", 2, 3, 4, 5, 6]]}, "1 with polygons that are none"),
        ({"segmentation": [[2, 2, 1e9, 2, 12, 10]]}, "1 with polygons far outside the image"),
        ({"segmentation": {"size": 7, "counts": [600]}}, "1 with a mask of another size"),
        ({"segmentation": {"size": [20, 30], "counts": None}}, "1 with a mask of another size"),
        ({"segmentation": {"size": [20, 30], "counts": [45, 5]}}, "1 with run lengths that are none"),
        ({"segmentation": {"size": [20, 30], "counts": [-5, 605]}}, "1 with run lengths that are none"),
        ({"segmentation": {"size": [20, 30], "counts": "abc"}}, "1 with run lengths that are none"),
        ({"bbox": [30, 2, 1, 8]}, "1 outside the image"),  # it would be cut off to nothing
        ({"bbox": [2, 2, 1e-9, 8]}, "1 without area"),
        ({"area": 10**400}, "1 with numbers that are not finite"),
        ({"image_id": [1]}, "1 without id, image_id, category_id or bbox"),
        ({"id": {}}, "1 without id, image_id, category_id or bbox"),
    ],
)
def test_malformed_annotations_are_named_and_refused_or_left_out(tmp_path, wrong, line):
    written(tmp_path, [annotation(1), annotation(2, **wrong)])
    place = tmp_path / "annotations" / "instances_train2017.json", tmp_path / "train2017"
    with pytest.raises(UserError, match=line) as error:
        read_annotations(*place, "raise")
    assert "\n" not in str(error.value)
    assert "instances_train2017.json" in str(error.value)
    entries, _, problems = read_annotations(*place, "skip")
    assert [len(entry.annotations) for entry in entries] == [1, 0, 0]
    assert sum(map(len, problems.values())) == 1


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"height": float("inf")}, "1 image without id, file_name, height or width"),
        ({"width": 0}, "1 image without id, file_name, height or width"),
        ({"id": [1]}, "1 image without id, file_name, height or width"),
        ({"id": 1}, "1 image id that stands twice"),
        ({"file_name": "z.png"}, "1 image whose file is missing"),
    ],
)
def test_malformed_images_are_named_and_refused_or_left_out(tmp_path, wrong, line):
    entries = [{"id": i, "file_name": f"{n}.png", "height": 20, "width": 30} for i, n in enumerate("abc", 1)]
    written(tmp_path, [annotation(1)], [*entries, {**entries[1], "id": 9, **wrong}])
    place = tmp_path / "annotations" / "instances_train2017.json", tmp_path / "train2017"
    with pytest.raises(UserError, match=line) as error:
        read_annotations(*place, "raise")
    assert "\n" not in str(error.value)
    entries, _, problems = read_annotations(*place, "skip")
    assert [len(entry.annotations) for entry in entries] == [1, 0, 0]
    assert sum(map(len, problems.values())) == 1


@pytest.mark.parametrize(
    ("categories", "line"),
    [
        ([{"id": 7, "name": "cat"}, {"id": 7, "name": "ant"}], "1 category id that stands twice"),
        ([{"id": float("inf"), "name": "cat"}], "cannot be read as COCO annotations"),
        ([], "has no categories"),
    ],
)
def test_malformed_categories_are_named(tmp_path, categories, line):
    written(tmp_path, [])
    path = tmp_path / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "categories": categories}))
    with pytest.raises(UserError, match=line):
        read_annotations(path, tmp_path / "train2017", "raise")


def test_numbers_and_names_as_ids_go_together(tmp_path):
    written(tmp_path, [annotation("x"), annotation(5), annotation(2)])
    entries, _, problems = read_annotations(
        tmp_path / "annotations" / "instances_train2017.json", tmp_path / "train2017", "raise"
    )
    assert not problems
    assert [one["id"] for one in entries[0].annotations] == [2, 5, "x"]


def test_a_mask_that_cannot_be_decoded_is_named_when_it_is_read(tmp_path):
    """Compressed codes are not decoded to the end before: that takes as long as reading all images."""
    code = {"size": [20, 30], "counts": "zzzzzzzzzzzz"}
    words = [*written(tmp_path, [annotation(1, segmentation=code)]), HELD_OUT]
    data = coco(*words)
    with pytest.raises(CorruptImage, match="annotation 1: its mask cannot be decoded"):
        data.source.train.read(0)
    left_out = coco(*words, "data.on_error=skip").skipped_names()
    assert left_out["train"] == [str(tmp_path / "train2017" / "a.png")]


def mapped(folder, array):
    """Maps of all images, and the categories of their values."""
    for split, names in (("train2017", "abc"), ("val2017", "v")):
        (folder / "stuffthingmaps" / split).mkdir(parents=True, exist_ok=True)
        for name in names:
            Image.fromarray(array).save(folder / "stuffthingmaps" / split / f"{name}.png")
    (folder / "annotations" / "categories.json").write_text(json.dumps([{"id": 4, "name": "sky"}]))


def test_maps_are_labels_of_pixels(tmp_path):
    words = written(tmp_path, [annotation(1)])
    values = np.full((20, 30), 4, np.uint8)
    values[:5] = 9
    mapped(tmp_path, values)
    data = coco(*words)
    assert np.array_equal(data.source.train.read(0).semantic, np.where(values == 4, 0, 255))
    assert data.info["stuff_classes"] == 1
    (tmp_path / "stuffthingmaps" / "train2017" / "b.png").unlink()
    with pytest.raises(UserError, match="1 image whose map is missing"):
        coco(*words)


@pytest.mark.parametrize(
    ("array", "line"),
    [
        (np.full((20, 30), 300, np.uint16), "is not of 8 bits a pixel"),
        (np.ones((20, 30), bool), "is not of 8 bits a pixel"),
        (np.ones((20, 30, 3), np.uint8), r"has the shape \(20, 30, 3\)"),
        (np.ones((9, 9), np.uint8), r"has the shape \(9, 9\)"),
    ],
)
def test_maps_that_are_none_are_named(tmp_path, array, line):
    words = written(tmp_path, [annotation(1)])
    mapped(tmp_path, array)
    with pytest.raises(CorruptImage, match=line):
        coco(*words).source.train.read(0)


def test_ids_that_no_map_can_hold_are_named(tmp_path):
    words = written(tmp_path, [annotation(1)])
    mapped(tmp_path, np.ones((20, 30), np.uint8))
    for wrong in (255, -1, 300):
        (tmp_path / "annotations" / "categories.json").write_text(json.dumps([{"id": wrong, "name": "sky"}]))
        with pytest.raises(UserError, match=f"its id {wrong} is none of 0 to 254"):
            coco(*words)


def test_what_was_left_out_is_counted(tmp_path):
    words = written(tmp_path, [annotation(1), annotation(2, area=0)])
    data = coco(*words, "data.on_error=skip")
    assert len(data.source.train.read(0).labels) == 1
    assert data.skipped["train2017: without area"] == 1
    assert data.skipped_names()["train2017: without area"] == ["annotation 2"]
    assert "1 malformed annotations left out" in data.description


def test_missing_and_corrupt_images(tmp_path):
    words = [*written(tmp_path, [annotation(1)]), HELD_OUT]
    (tmp_path / "train2017" / "a.png").write_bytes(b"no image")
    data = coco(*words)
    loaders = [data.train_dataloader(), data.val_dataloader()]
    with pytest.raises(RunError, match=r"a\.png: not an image"):
        _ = [list(loader) for loader in loaders]
    data = coco(*words, "data.on_error=skip")
    assert sum(data.sizes.values()) == 3
    assert sum(data.skipped.values()) == 1
    (tmp_path / "train2017" / "a.png").unlink()
    with pytest.raises(UserError, match="1 image whose file is missing"):
        coco(*words)


def test_a_corrupt_test_image_is_found_when_it_is_its_turn(tmp_path):
    """The first one's size is known without it; pictures leave it out."""
    words = [*written(tmp_path, [annotation(1)]), "data.shorter=[40]"]
    (tmp_path / "val2017" / "v.png").write_bytes(b"no image")
    data = coco(*words)
    assert data.example_size() == (64, 64)
    assert data.examples(5) == []
    with pytest.raises(RunError, match=r"v\.png: not an image"):
        list(data.test_dataloader())


def test_a_split_without_images_is_named(tmp_path):
    words = written(tmp_path, [annotation(1)])
    (tmp_path / "val2017" / "v.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="data=coco: there is no image of test besides 1 that cannot be read"):
        coco(*words, "data.on_error=skip")
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "images": [], "annotations": []}))
    with pytest.raises(UserError, match=r"data=coco: there is no image of test$"):
        coco(*words)


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"data.root=\S*nowhere: there is no such folder"):
        coco("data=coco", f"data.root={tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match=r"data.objects=\[5,2\]: the first is larger"):
        compose("train", [*WORDS, "data.objects=[5,2]"])
    with pytest.raises(UserError, match=r"the largest is wider than data.image_size=20"):
        made("data.image_size=20")
    with pytest.raises(UserError, match="objects cannot be mixed; use mix=none"):
        compose("train", [*WORDS, "mix=mixup"])
    with pytest.raises(UserError, match="is more than the 24 training images"):
        made("data.batch_size=25")
