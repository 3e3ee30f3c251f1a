"""What the data layer promises whatever the source: nothing lost, nothing leaked, one fingerprint, one clear line."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from drawn import batches, encoded, folder, load, parquet, picture
from PIL import Image

from paperzoo.data.augment import draws
from paperzoo.data.module import _histogram
from paperzoo.data.order import Order
from paperzoo.errors import RunError, UserError

STREAM = ["data=hf", "data.streaming=true", "data.image_size=12", "data.validation=11", "data.batch_size=4"]
FOLDER = ["data=image_folder", "data.image_size=12", "data.batch_size=4"]


def line_of(*words: str) -> str:
    with pytest.raises((UserError, RunError)) as caught:
        batches(load(*words), 0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def raw(data, epoch: int) -> list:
    """An epoch's batches as the loader gives them: images, labels, random numbers."""
    loader = data.train_dataloader()
    loader.order.set_epoch(epoch)
    return list(loader)


# streams


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("size", [2, 5])
def test_a_streamed_evaluation_sees_every_image_once(size, ranks, tmp_path):
    root = parquet(tmp_path / "set", rows=60)
    words = [*STREAM, f"data.path={root}", "data.limit_train=24", f"data.eval_batch_size={size}"]
    seen = [image for rank in range(ranks) for batch in load(*words, rank=rank, world_size=ranks).val_dataloader()
            for image in batch[0]]  # fmt: skip
    alone = [image for batch in load(*words).val_dataloader() for image in batch[0]]
    assert len(seen) == len(alone) == 11
    assert all(torch.equal(a, b) for a, b in zip(seen, alone, strict=True))


@pytest.mark.parametrize("drop", ["true", "false"])
def test_ranks_of_a_stream_train_on_what_one_rank_would(drop, tmp_path):
    root = parquet(tmp_path / "set", rows=60)
    words = [f"data.path={root}", "data.limit_train=26", f"data.drop_last={drop}"]
    one = raw(load(*STREAM[:-1], "data.batch_size=8", *words), 1)
    two = [raw(load(*STREAM, *words, rank=rank, world_size=2), 1) for rank in (0, 1)]
    assert len(one) == len(two[0]) == len(two[1]) == (3 if drop == "true" else 4)
    for whole, left, right in zip(one, *two, strict=True):
        assert torch.equal(whole[0], torch.cat([left[0], right[0]]))
        assert torch.equal(whole[2], torch.cat([left[2], right[2]]))  # augmentation belongs to the image


def test_limit_train_of_a_stream_is_a_subset_and_resized_crop_crops(tmp_path):
    root = parquet(tmp_path / "set", rows=60)
    words = [*STREAM, f"data.path={root}", "data.limit_train=24", "data.augment.crop_padding=0"]
    plain = load(*words)
    images = {image.numpy().tobytes() for epoch in range(3) for batch in raw(plain, epoch) for image in batch[0]}
    assert len(images) == 24
    cropped = load(*words, "data.augment.resized_crop=true")
    other = {image.numpy().tobytes() for batch in raw(cropped, 0) for image in batch[0]}
    assert len(other - images) > 20


def test_corrupt_images_of_a_stream_are_skipped_and_counted_once(tmp_path):
    bad = (20, 33)
    images = [encoded(picture(i)) if i not in bad else encoded(picture(i))[:60] for i in range(60)]
    root = parquet(tmp_path / "set", images=images)
    words = [*STREAM, f"data.path={root}", "data.limit_train=40", "data.mean=[0.5]", "data.std=[0.2]"]
    assert "of the stream: " in line_of(*words)
    data = load(*words, "data.on_error=skip")
    for epoch in range(2):
        assert sum(len(batch[0]) for batch in batches(data, epoch)) == 38
    assert data.count_skipped() == {"train": 2, "val": 0, "test": 0}


def test_a_stream_does_not_store_its_training_images(tmp_path, monkeypatch):
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    root = parquet(tmp_path / "set", rows=60)
    load(*STREAM, f"data.path={root}", "data.limit_train=24")
    stored = [path.name for path in (tmp_path / "cache").rglob("*.arrow")]
    assert stored
    assert not [name for name in stored if "train" in name]


# fingerprints


def test_the_fingerprint_is_of_the_data_however_it_is_read_and_whatever_lies_beside_it(tmp_path):
    root = folder(tmp_path / "a")
    words = [*FOLDER, "data.in_memory=true"]
    first = load(*words, f"data.root={root}").fingerprint
    assert load(*FOLDER, "data.in_memory=false", f"data.root={root}").fingerprint == first
    moved = shutil.copytree(root, tmp_path / "b")
    (moved / ".hidden.png").write_bytes(b"x")
    (moved / "readme.txt").write_text("x")
    a_class = next(path for path in sorted(moved.iterdir()) if path.is_dir())
    (a_class / ".ipynb_checkpoints").mkdir()
    shutil.copy(next(a_class.glob("*.png")), a_class / ".ipynb_checkpoints" / "copy.png")
    assert load(*words, f"data.root={moved}").fingerprint == first
    image = sorted(a_class.glob("*.png"))[0]
    content = bytearray(image.read_bytes())
    content[-1] ^= 1  # of the same size
    image.write_bytes(content)
    assert load(*words, f"data.root={moved}").fingerprint != first


def test_a_streams_fingerprint_follows_its_content_not_its_place(tmp_path):
    root = parquet(tmp_path / "a", rows=60)
    words = [*STREAM, "data.limit_train=24"]
    first = load(*words, f"data.path={root}").fingerprint
    moved = shutil.copytree(root, tmp_path / "b")
    assert load(*words, f"data.path={moved}").fingerprint == first
    labels = [(i + 1) % 3 for i in range(60)]
    other = parquet(tmp_path / "c", images=[encoded(picture(i)) for i in range(60)], labels=labels)
    assert load(*words, f"data.path={other}").fingerprint != first


# what images are


@pytest.mark.parametrize("memory", ["true", "false"])
def test_one_coloured_image_makes_all_coloured(memory, tmp_path):
    root = folder(tmp_path / "set")
    files = sorted(root.rglob("*.png")) or sorted(root.rglob("*.*"))
    for file in files[:-1]:
        Image.open(file).convert("L").save(file)
    Image.fromarray(np.full((12, 12, 3), (200, 10, 10), np.uint8)).save(files[-1])
    assert load(*FOLDER, f"data.root={root}", f"data.in_memory={memory}").in_chans == 3


@pytest.mark.parametrize(("array", "mode", "expected"), [
    (np.array([[0.0, 1.0]], np.float32), "F", [0, 255]),
    (np.array([[0.0, 255.0]], np.float32), "F", [0, 255]),
    (np.array([[0, 255]], np.int32), "I", [0, 255]),
    (np.array([[0, 65535]], np.int32), "I", [0, 255]),
])  # fmt: skip
def test_grey_levels_of_tiff_files_are_kept(array, mode, expected):
    from paperzoo.data.images import to_pixels

    image = Image.fromarray(array)
    assert image.mode == mode
    assert to_pixels(image, 1, None).ravel().tolist() == expected


def test_histogram_in_parts_equals_numpys():
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 210, 190), dtype=np.uint8)
    for channel, counts in enumerate(_histogram(images)):
        assert np.array_equal(counts, np.bincount(images[:, channel].ravel(), minlength=256))


def test_splits_are_small_to_pickle(tmp_path):
    data = load("data=hf", f"data.path={parquet(tmp_path / 'set', rows=60)}", "data.validation=12",
                "data.batch_size=8", "data.in_memory=false", "data.image_size=12")  # fmt: skip
    split = data.parts["train"].split
    again = pickle.loads(pickle.dumps(split))
    assert again.read(3) == split.read(3)
    assert len(load(*FOLDER, f"data.root={folder(tmp_path / 'f')}").parts["train"].split.where(0)) > 3


# mistakes


def test_a_corrupt_image_outside_memory_is_named_without_a_traceback(tmp_path):
    root = folder(tmp_path / "set")
    files = sorted(root.rglob("*.*"))
    for file in files[5:]:
        file.write_bytes(file.read_bytes()[:70])
    words = [*FOLDER, f"data.root={root}", "data.in_memory=false"]
    assert str(root) in line_of(*words)
    line = line_of(*words, "data.mean=[0.5]", "data.std=[0.2]", "data.workers=1")
    assert str(root) in line
    assert "Traceback" not in line
    assert "worker" not in line


@pytest.mark.parametrize(("names", "part"), [
    (("val",), "val: holds folders, not images"),
    (("train", "validation"), "validation: holds folders, not images"),
    (("training", "testing"), "testing: holds folders, not images"),
])  # fmt: skip
def test_splits_under_other_names_are_refused(names, part, tmp_path):
    for name in names:
        folder(tmp_path / "set" / name)
    assert part in line_of(*FOLDER, f"data.root={tmp_path / 'set'}")


def test_a_class_may_be_called_train(tmp_path):
    root = folder(tmp_path / "set")
    classes = sorted(path for path in root.iterdir() if path.is_dir())
    classes[0].rename(root / "train")
    assert "train" in load(*FOLDER, f"data.root={root}").class_names


def test_a_dangling_link_is_no_image(tmp_path):
    root = folder(tmp_path / "set")
    before = load(*FOLDER, f"data.root={root}").fingerprint
    a_class = next(path for path in sorted(root.iterdir()) if path.is_dir())
    (a_class / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert load(*FOLDER, f"data.root={root}", "data.in_memory=false").fingerprint == before


@pytest.mark.parametrize(("words", "part"), [
    (["data.image_column=label"], "data.image_column=label: holds"),
    (["data.label_column=image"], "data.label_column=image: holds"),
    (["data.test_split=train"], "data.test_split=train: train is in data.train_split=train, too"),
    (["data.train_split=train+test"], "test is in data.train_split=train+test, too"),
])  # fmt: skip
def test_columns_and_splits_that_cannot_be_right(words, part, tmp_path):
    root = parquet(tmp_path / "set", rows=60)
    assert part in line_of("data=hf", f"data.path={root}", "data.validation=12", "data.batch_size=8", *words)


def test_a_split_with_fewer_images_than_ranks_is_refused(tmp_path):
    root = parquet(tmp_path / "set", rows=60)
    words = ["data=hf", f"data.path={root}", "data.validation=1", "data.batch_size=8"]
    with pytest.raises(UserError, match="val has 1 image"):
        load(*words, world_size=2)


def test_an_order_of_a_stream_is_not_permuted():
    order = Order(10, 4, seed=3, permuted=False)
    assert torch.cat(list(order)).tolist() == list(range(10))
    assert draws(1, 0, 1, 7).shape == (1, 3)


def test_test_labels_are_told_by_the_names_of_their_classes(tmp_path):
    import datasets

    root = parquet(tmp_path / "a", rows=60)
    other = parquet(tmp_path / "b", rows=60, label=datasets.ClassLabel(names=["c", "b", "a"]))
    words = ["data=hf", f"data.path={root}", "data.validation=12", "data.batch_size=8"]
    before = load(*words).parts["test"].labels
    shutil.copy(next(other.glob("test*")), next(root.glob("test*")))
    assert np.array_equal(load(*words).parts["test"].labels, 2 - before)
    more = parquet(tmp_path / "c", rows=60, label=datasets.ClassLabel(names=["a", "b", "d"]))
    shutil.copy(next(more.glob("test*")), next(root.glob("test*")))
    assert "split test has a class d that train does not have; classes: a, b, c" in line_of(*words)
