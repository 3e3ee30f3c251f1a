"""What the data layer promises whatever the source: nothing lost, nothing leaked, one fingerprint, one clear line."""

import pickle
import shutil
import tracemalloc

import numpy as np
import pytest
import torch
from drawn import batches, encoded, folder, load, parquet, picture
from PIL import Image

from paperzoo.data.images.augment import draws
from paperzoo.data.images.decoding import CorruptImage, open_image
from paperzoo.data.images.loaders import refusal
from paperzoo.data.images.rows import histogram
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
    from paperzoo.data.images.decoding import to_pixels

    image = Image.fromarray(array)
    assert image.mode == mode
    pixels = to_pixels(image, 1, None)
    assert pixels.ravel().tolist() == expected
    assert pixels.flags.writeable  # torch warns of others


@pytest.mark.parametrize("workers", [0, 1])
def test_a_coloured_image_that_was_not_looked_at_stops_the_run(workers, tmp_path, monkeypatch):
    monkeypatch.setattr("paperzoo.data.images.module.SAMPLE", 1)  # the first of each split
    root = folder(tmp_path / "set")
    for file in root.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    words = [*FOLDER, f"data.root={root}", "data.in_memory=false", "data.mean=[0.5]", "data.std=[0.2]"]
    split = load(*words).parts["train"]
    last = split.split.paths[int(split.rows[-1])]
    picture(1).save(last)
    line = f"{last}: is coloured, the images looked at before were grey; set data.in_chans=3"
    assert line_of(*words, f"data.workers={workers}") == line
    assert sum(len(batch[0]) for batch in batches(load(*words, "data.in_chans=1"))) == 32  # as told


def test_histogram_in_parts_equals_numpys():
    images = np.random.default_rng(0).integers(0, 256, (250, 3, 210, 190), dtype=np.uint8)
    tracemalloc.start()
    counted = histogram(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.nbytes  # it was eight times as much
    for channel, counts in enumerate(counted):
        assert np.array_equal(counts, np.bincount(images[:, channel].ravel(), minlength=256))


def test_splits_are_small_to_pickle(tmp_path):
    data = load("data=hf", f"data.path={parquet(tmp_path / 'set', rows=60)}", "data.validation=12",
                "data.batch_size=8", "data.in_memory=false", "data.image_size=12")  # fmt: skip
    split = data.parts["train"].split
    split.read(0)  # the column is there
    small = pickle.dumps(split)
    assert len(small) < 5000 < sum(len(split.read(row)) for row in range(60))
    again = pickle.loads(small)
    assert again.read(3) == split.read(3)


@pytest.mark.full
def test_workers_may_be_spawned(tmp_path):
    """Those that read files; what a table's workers get is pickled above."""
    words = ["data=image_folder", f"data.root={folder(tmp_path / 'set')}", "data.validation=4", "data.batch_size=8",
             "data.in_memory=false", "data.image_size=12"]  # fmt: skip
    loader = load(*words, "data.workers=1").train_dataloader()
    loader.loader.multiprocessing_context = "spawn"
    expected = list(load(*words).train_dataloader())
    for got, want in zip(loader, expected, strict=True):
        assert torch.equal(got[0], want[0])
        assert torch.equal(got[1], want[1])


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


def test_an_image_whose_file_is_gone_is_not_to_be_removed(tmp_path):
    with pytest.raises(CorruptImage, match="no such file any more") as caught:
        open_image(tmp_path / "gone.png")
    assert "restore it" in refusal("gone.png", caught.value)
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(CorruptImage, match="not an image") as caught:
        open_image(tmp_path / "text.png")
    assert "remove it" in refusal("text.png", caught.value)


@pytest.mark.parametrize(("names", "part"), [
    (("val",), "val: is neither a split nor a class; a root with splits has train/<class>/<image>"),
    (("train", "validation"), "validation: is neither a split nor a class"),
    (("training", "testing"), "testing: is neither a split nor a class"),
])  # fmt: skip
def test_splits_under_other_names_are_refused(names, part, tmp_path):
    for name in names:
        folder(tmp_path / "set" / name)
    assert part in line_of(*FOLDER, f"data.root={tmp_path / 'set'}")


def test_stray_images_do_not_turn_splits_into_classes(tmp_path):
    root = tmp_path / "set"
    for name in ("train", "test"):
        folder(root / name)
    picture(1).save(root / "train" / "logo.png")
    assert load(*FOLDER, f"data.root={root}").class_names == ["cat", "dog"]
    (root / "docs").mkdir()
    picture(1).save(root / "docs" / "logo.png")
    assert "docs: is neither a split nor a class" in line_of(*FOLDER, f"data.root={root}")


def test_classes_may_have_folders(tmp_path):
    for name in ("cat", "dog"):
        folder(tmp_path / "set" / name, ("indoors", "outdoors"), each=10)
    data = load(*FOLDER, f"data.root={tmp_path / 'set'}")
    assert data.class_names == ["cat", "dog"]
    assert sum(data.sizes.values()) == 40


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
    (["data.train_split=all"], "test is in data.train_split=all, too"),
    (['data.test_split="train[:10%]"'], "data.test_split=train[:10%]: train is in data.train_split=train, too"),
    (['data.train_split="train+test[:50%]"'], "test is in data.train_split=train+test[:50%], too"),
])  # fmt: skip
def test_columns_and_splits_that_cannot_be_right(words, part, tmp_path):
    root = parquet(tmp_path / "set", rows=60)
    assert part in line_of("data=hf", f"data.path={root}", "data.validation=12", "data.batch_size=8", *words)


def test_two_slices_of_a_split_are_no_leak(tmp_path):
    words = ["data=hf", f"data.path={parquet(tmp_path / 'set', rows=60)}", "data.validation=6", "data.batch_size=8"]
    data = load(*words, 'data.train_split="train[:80%]"', 'data.test_split="train[80%:]"')
    assert data.sizes == {"train": 42, "val": 6, "test": 12}
    train = {image.numpy().tobytes() for name in ("train", "val") for image in data.tensors(name)[0]}
    assert not train & {image.numpy().tobytes() for image in data.tensors("test")[0]}


def test_a_split_with_fewer_images_than_ranks_is_refused(tmp_path):
    root = parquet(tmp_path / "set", rows=60)
    words = ["data=hf", f"data.path={root}", "data.validation=1", "data.batch_size=8"]
    with pytest.raises(UserError, match="val has 1 image"):
        load(*words, world_size=2)


def test_an_order_of_a_stream_is_not_permuted():
    order = Order(10, 4, seed=3, sequence=lambda _: torch.arange(10))
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


def table(file, labels, kind, image="image", struct=True):
    """A Parquet file of drawn images, with the labels' type as given."""
    import datasets

    stored = [{"bytes": encoded(picture(i)), "path": None} for i in range(len(labels))]
    cells = stored if struct else [cell["bytes"] for cell in stored]
    bare = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features = datasets.Features({image: bare if struct else datasets.Value("binary"), "label": kind})
    if image == "image" and struct:
        features[image] = datasets.Image()
    file.parent.mkdir(exist_ok=True)
    datasets.Dataset.from_dict({image: cells, "label": labels}, features=features).to_parquet(str(file))


def test_labels_of_words_and_numbers(tmp_path):
    import datasets

    words, numbers = datasets.Value("string"), datasets.Value("int64")
    names = datasets.ClassLabel(names=["a", "b", "c"])
    given = ["data.validation=12", "data.batch_size=8"]
    cases = [  # train's labels and their type, test's, the classes, test's first indices or the line
        ((["b", "a", "c"], words), (["c", "a", "b"], words), ["a", "b", "c"], [2, 0, 1]),
        (([-1, 1, -1], numbers), ([1, -1, 1], numbers), ["-1", "1"], [1, 0, 1]),
        (([0, 1, 2], names), (["c", "a", "b"], words), ["a", "b", "c"], [2, 0, 1]),
        (
            (["a", "b", "c"], words),
            (["a", "zebra", "c"], words),
            None,
            "split test has a class zebra that train does not",
        ),
        (([0, 1, 2], numbers), ([0, 5, 2], numbers), None, "split test has a class 5 that train does not have"),
    ]
    for number, ((train, kind), (test, other), classes, expected) in enumerate(cases):
        root = tmp_path / str(number)
        table(root / "train-0.parquet", train * 20, kind)
        table(root / "test-0.parquet", test * 20, other)
        if classes is None:
            assert expected in line_of("data=hf", f"data.path={root}", *given)
        else:
            data = load("data=hf", f"data.path={root}", *given)
            assert data.class_names == classes
            assert data.parts["test"].labels[:3].tolist() == expected


@pytest.mark.parametrize("struct", [True, False])
@pytest.mark.parametrize("streaming", [True, False])
def test_images_may_be_plain_bytes(struct, streaming, tmp_path):
    import datasets

    names = datasets.ClassLabel(names=["a", "b", "c"])
    for split in ("train", "test"):
        table(tmp_path / "set" / f"{split}-0.parquet", [0, 1, 2] * 20, names, image="picture", struct=struct)
    words = [*STREAM, "data.limit_train=40", "data.mean=[0.5]", "data.std=[0.2]"] if streaming else ["data=hf"]
    words += ["data.validation=12", "data.batch_size=8", f"data.path={tmp_path / 'set'}", "data.image_column=picture"]
    data = load(*words)
    seen = {image.numpy().tobytes() for batch in raw(data, 0) for image in batch[0]}
    assert seen <= {np.asarray(picture(i)).transpose(2, 0, 1).tobytes() for i in range(60)}
    assert len(seen) == (40 if streaming else 48)


def test_a_column_in_several_chunks_is_read_and_hashed_by_row():
    import datasets
    import pyarrow as pa

    from paperzoo.data.images.stored import Table

    content = [bytes([i]) * (i + 1) for i in range(6)]
    cells = [{"bytes": data, "path": None} for data in content]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = pa.chunked_array([pa.array(cells[:2], kind), pa.array(cells[2:3], kind), pa.array(cells[3:], kind)])
    part = datasets.Dataset(pa.table({"image": column}))
    split = Table(part, "image", np.zeros(6, np.int64), "it")
    assert split.column.num_chunks == 3
    assert [split.read(row) for row in range(6)] == content
    assert [bytes(split.stored(row)) for row in range(6)] == content
    assert split.sizes(np.array([5, 0, 2])).tolist() == [6, 1, 3]


# fingerprints of large data, the hub, the cache


def test_above_the_limit_lengths_and_ends_are_hashed_however_images_are_stored(tmp_path):
    from paperzoo.data.fingerprint import ENDS, digest_of_images

    content = np.random.default_rng(0).integers(0, 256, 5 * ENDS, dtype=np.uint8).tobytes()
    middle, end = bytearray(content), bytearray(content)
    middle[2 * ENDS] ^= 1
    end[-1] ^= 1
    file = tmp_path / "image"
    file.write_bytes(content)
    for whole in (True, False):
        digest = digest_of_images([content], whole=whole)
        assert digest == digest_of_images([memoryview(content)], whole=whole) == digest_of_images([file], whole=whole)
        assert (digest == digest_of_images([bytes(middle)], whole=whole)) is not whole
        assert digest != digest_of_images([bytes(end)], whole=whole)
        assert digest != digest_of_images([content + b"x"], whole=whole)


@pytest.mark.parametrize("cause", ["HTTPS_PROXY", "offline"])
def test_the_hub_is_not_probed_behind_a_proxy_or_offline(cause, monkeypatch):
    from huggingface_hub import constants

    from paperzoo.data.images import hub

    asked = []

    def connect(address, timeout):
        asked.append(address)
        raise OSError

    monkeypatch.setattr(hub.socket, "create_connection", connect)
    monkeypatch.setattr(constants, "ENDPOINT", "http://mirror.example:8080")
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with pytest.raises(UserError, match="cannot be reached"):
        hub._need_network("some/set")
    monkeypatch.setattr(constants, "ENDPOINT", "https://mirror.example")
    with pytest.raises(UserError, match="cannot be reached"):
        hub._need_network("some/set")
    assert asked == [("mirror.example", 8080), ("mirror.example", 443)]
    if cause == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        monkeypatch.setenv(cause, "http://proxy:3128")
    hub._need_network("some/set")
    assert len(asked) == 2


@pytest.mark.parametrize("words", [["data.limit_train=24"], [*STREAM, "data.limit_train=24"]])
def test_a_cache_that_cannot_be_written_is_one_line(words, tmp_path, monkeypatch):
    import datasets.config

    root = parquet(tmp_path / "set", rows=60)
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file" / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    line = line_of("data=hf", f"data.path={root}", "data.validation=12", "data.batch_size=8", *words)
    assert f"the cache {cache} cannot be written; set HF_HOME to a folder that can" in line
