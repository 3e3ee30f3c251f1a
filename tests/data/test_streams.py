"""Streams: evaluation over ranks, corrupt images, what is not stored."""

import shutil

import pytest
import torch
from drawn import batches, encoded, load, parquet, picture

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
    with pytest.raises(RunError, match=r"hf, row (20|33) of the stream: "):  # on its way: exit code 1
        batches(load(*words), 0)
    data = load(*words, "data.on_error=skip")
    for epoch in range(2):
        assert sum(len(batch[0]) for batch in batches(data, epoch)) == 38
        assert data.skipped == {"train": 2, "val": 0, "test": 0}
    assert data.count_skipped() == data.skipped
    assert not data.equal_batches
    resumed = load(*words, "data.on_error=skip")
    resumed.load_state_dict(data.state_dict())
    assert resumed.skipped == data.skipped


def test_a_batch_without_a_good_image_is_one_line(tmp_path):
    images = [encoded(picture(i)) if i < 11 else b"x" for i in range(60)]
    words = [*STREAM, f"data.path={parquet(tmp_path / 'set', images=images)}", "data.limit_train=40"]
    words += ["data.mean=[0.5]", "data.std=[0.2]", "data.on_error=skip"]
    assert "hf: none of the 4 images of a batch can be read" in line_of(*words)


def test_a_stream_that_ends_early_is_one_line(tmp_path):
    words = [*STREAM, f"data.path={parquet(tmp_path / 'set', rows=60)}", "data.limit_train=100"]
    assert line_of(*words) == "hf: the stream ends before its row 110; lower data.limit_train"


def test_a_torn_file_and_a_missing_label_of_a_stream_are_one_line(tmp_path):
    root = parquet(tmp_path / "torn", rows=60)
    file = next(root.glob("train*"))
    content = bytearray(file.read_bytes())
    content[3000:6400] = b"\xff" * 3400
    file.write_bytes(content)
    assert f"{root}, split train: the stream breaks off (" in line_of(
        *STREAM, f"data.path={root}", "data.limit_train=24"
    )
    root = parquet(tmp_path / "unlabelled", labels=[0, 1, 2] * 6 + [-1] * 42)
    line = line_of(*STREAM, f"data.path={root}", "data.limit_train=24")
    assert line == f"{root}, split train, row 18: label -1 is outside the 3 classes"


def test_a_corrupt_test_image_beside_a_stream_is_skipped(tmp_path):
    root = parquet(tmp_path / "set", rows=60)
    bad = parquet(tmp_path / "bad", images=[encoded(picture(i)) if i != 20 else b"x" for i in range(60)])
    shutil.copy(next(bad.glob("train*")), next(root.glob("test*")))
    data = load(*STREAM, f"data.path={root}", "data.limit_train=24", "data.on_error=skip")
    assert data.skipped["test"] == 1
    assert sum(len(batch[0]) for batch in data.test_dataloader()) == 59


def test_a_stream_does_not_store_its_training_images(tmp_path, monkeypatch):
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    root = parquet(tmp_path / "set", rows=60)
    load(*STREAM, f"data.path={root}", "data.limit_train=24")
    stored = [path.name for path in (tmp_path / "cache").rglob("*.arrow")]
    assert stored
    assert not [name for name in stored if "train" in name]
