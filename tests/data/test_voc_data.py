"""Pascal VOC's format: boxes that count pixels from 1, lists, difficult objects, maps of instances, mistakes."""

import numpy as np
import pytest
from PIL import Image

from paperzoo.config import compose
from paperzoo.data.images.decoding import CorruptImage
from paperzoo.data.images.loaders import Key
from paperzoo.data.interface import make_data
from paperzoo.errors import UserError

OBJECT = "<object><name>{}</name><difficult>{}</difficult><bndbox>{}</bndbox></object>"


def thing(name, box, difficult=0):
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return OBJECT.format(name, difficult, corners)


def xml(name, objects, size="<size><width>30</width><height>20</height><depth>3</depth></size>"):
    return f"<annotation><filename>{name}.jpg</filename>{size}{''.join(objects)}</annotation>"


def written(root, **images):
    """A folder of images by name, all trained on, and one to test on."""
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages", "SegmentationObject"):
        (root / folder).mkdir(parents=True)
    every = {**images, "t": xml("t", [thing("cat", (3, 3, 12, 10))])}
    for name, content in every.items():
        Image.new("RGB", (30, 20), (9, 9, 9)).save(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations" / f"{name}.xml").write_text(content)
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("".join(f"{name}  1\n" for name in images))
    (root / "ImageSets" / "Main" / "test.txt").write_text("t\n")
    return [f"data.root={root}", "data.batch_size=1", "data.validation=1", "data.workers=0", "data.shorter=null",
            "data.longer=null", "data.flip=0.0"]  # fmt: skip


def voc(*words):
    return make_data(compose("train", ["model=faster_rcnn", "data=voc", "logger=none", *words]))


TWO = [thing("cat", (3, 3, 12, 10)), thing("ant", (1, 1, 30, 20), difficult=1)]


def test_boxes_classes_and_difficult_objects(tmp_path):
    data = voc(*written(tmp_path, a=xml("a", TWO), b=xml("b", []), c=xml("c", [])))
    assert data.class_names == ["ant", "cat"]
    assert data.sizes == {"train": 2, "val": 1, "test": 1}
    sample = data.source.train.read(0)
    assert sample.boxes.tolist() == [[2, 2, 12, 10], [0, 0, 30, 20]]
    assert (sample.labels.tolist(), sample.crowd.tolist()) == ([1, 0], [False, True])
    assert sample.areas.tolist() == [80, 600]
    expected = np.zeros((20, 30), bool)
    expected[2:10, 2:12] = True
    assert np.array_equal(sample.masks[0], expected)
    trained = data._loader("train", 1, train=True).dataset._trained(sample, Key(0, 0))[1]
    assert trained["labels"].tolist() == [1]  # without the difficult one
    (batch,) = list(data.test_dataloader())
    assert batch[1][0]["truth"][0]["bbox"] == [2, 2, 10, 8]


def test_masks_are_those_of_the_map_of_instances(tmp_path):
    words = written(tmp_path, a=xml("a", [thing("cat", (1, 1, 4, 4)), *TWO]), b=xml("b", []))
    before = voc(*words).fingerprint
    values = np.zeros((20, 30), np.uint8)
    values[2:8, 3:9], values[10:12, 3:9], values[0] = 2, 3, 255  # void
    image = Image.fromarray(values).convert("P")
    image.putdata(values.ravel().tolist())
    image.save(tmp_path / "SegmentationObject" / "a.png")
    data = voc(*words)
    masks = data.source.train.read(0).masks
    assert [np.array_equal(mask, values == i) for i, mask in enumerate(masks, 1)] == [True] * 3
    assert data.fingerprint != before
    Image.fromarray(values[:5]).save(tmp_path / "SegmentationObject" / "a.png")
    with pytest.raises(CorruptImage, match=r"its map .*a\.png: has the shape \(5, 30\)"):
        data.source.train.read(0)


def test_classes_may_be_given(tmp_path):
    words = written(tmp_path, a=xml("a", TWO), b=xml("b", []))
    data = voc(*words, "data.classes=[cat,dog,ant]")
    assert data.source.train.read(0).labels.tolist() == [0, 2]
    with pytest.raises(UserError, match="1 of an unknown category"):
        voc(*words, "data.classes=[cat]")
    with pytest.raises(UserError, match="cat stands twice"):
        voc(*words, "data.classes=[cat,cat]")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (xml("b", [thing("cat", (3, 3, 2, 10))]), "1 without area"),
        (xml("b", [thing("cat", (3, 3, 40, 10))]), "1 outside the image"),
        (xml("b", [thing("cat", (3, 3, "nan", 10))]), "1 with numbers that are not finite"),
        (xml("b", ["<object><name>cat</name></object>"]), "1 with numbers that are not finite"),
        (xml("b", [thing("", (3, 3, 12, 10))]), "1 of an unknown category"),
        (xml("b", [], size=""), "1 image without id, file_name, height or width"),
        ("<annotation>", "1 image whose annotations are no XML"),
    ],
)
def test_mistakes_are_named_and_refused_or_left_out(tmp_path, content, line):
    words = written(tmp_path, a=xml("a", TWO), b=content, c=xml("c", []))
    with pytest.raises(UserError, match=line) as error:
        voc(*words)
    assert "\n" not in str(error.value)
    data = voc(*words, "data.on_error=skip")
    assert sum(data.skipped.values()) == 1
    assert len(data.source.train.read(0).labels) == 2


def test_what_is_missing_is_named(tmp_path):
    words = written(tmp_path, a=xml("a", TWO), b=xml("b", []), c=xml("c", []))
    with pytest.raises(UserError, match=r"data.val_list=Main/val: .*val\.txt cannot be read"):
        voc(*words, "data.val_list=Main/val")
    (tmp_path / "JPEGImages" / "b.jpg").unlink()
    (tmp_path / "Annotations" / "c.xml").unlink()
    with pytest.raises(UserError, match="1 image whose annotations are missing, 1 image whose file is missing"):
        voc(*words)
    (tmp_path / "ImageSets" / "Main" / "trainval.txt").write_text("a\na\nb\n")
    with pytest.raises(UserError, match="1 image id that stands twice"):
        voc(*words)
    (tmp_path / "ImageSets" / "Main" / "trainval.txt").write_text("c\n")
    with pytest.raises(UserError, match="1 image whose annotations are missing"):
        voc(*words)
    (tmp_path / "ImageSets" / "Main" / "trainval.txt").write_text("")
    with pytest.raises(UserError, match=r"data\.train_list=Main/trainval: none of its 0 images has an object"):
        voc(*words)
