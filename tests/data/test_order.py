"""Order and random numbers belong to the sample: not to workers, ranks, batches or kills."""

from functools import partial

import pytest
import torch
from drawn import batches, folder, load, parquet
from hypothesis import given, settings
from hypothesis import strategies as st

from paperzoo.data.order import Order
from paperzoo.data.samplers import shuffled

SMALL = ["data.limit_train=200", "data.batch_size=32"]


def equal(first, second) -> bool:
    """Whether lists of batches are: their images, labels and indices, none of them weighted."""
    assert all(part is None for batch in [*first, *second] for part in batch[3:])
    return len(first) == len(second) and all(
        torch.equal(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x[:3], y[:3], strict=True)
    )


def test_epochs_and_seeds_differ_and_repeat():
    data = load(*SMALL)
    assert equal(batches(data, 3), batches(data, 3))
    assert not equal(batches(data, 0), batches(data, 1))
    assert not equal(batches(data, 0), batches(load(*SMALL, seed=1), 0))


def test_two_ranks_see_what_one_sees_with_twice_the_batch():
    whole = batches(load("data.limit_train=200", "data.batch_size=64"))
    parts = [batches(load(*SMALL, rank=rank, world_size=2)) for rank in (0, 1)]
    joined = [tuple(map(torch.cat, zip(*(b[:3] for b in both), strict=True))) for both in zip(*parts, strict=True)]
    assert equal(whole, joined)


@pytest.mark.parametrize("done", [1, 3, 5])
def test_an_epoch_goes_on_where_it_stopped(done):
    data = load(*SMALL)
    whole = batches(data, 2)
    first = data.train_dataloader()
    first.order.set_epoch(2)
    iterator = iter(first)
    for _ in range(done):
        next(iterator)
    state = data.state_dict()
    resumed = load(*SMALL)
    resumed.load_state_dict(state)
    loader = resumed.train_dataloader()
    loader.order.set_epoch(2)  # as Lightning does when the epoch goes on
    assert equal([resumed.on_after_batch_transfer(batch, 0) for batch in loader], whole[done:])
    loader.order.set_epoch(3)
    assert equal([resumed.on_after_batch_transfer(batch, 0) for batch in loader], batches(data, 3))


@given(size=st.integers(1, 200), batch=st.integers(1, 40), ranks=st.integers(1, 5))
@settings(deadline=None)
def test_evaluation_sees_every_image_once(size, batch, ranks):
    orders = [Order(size, batch, seed=None, rank=rank, ranks=ranks) for rank in range(ranks)]
    seen = [index for order in orders for part in order for index in part.tolist()]
    assert seen == list(range(size))
    assert all(len(order) == len(list(order)) for order in orders)


@given(size=st.integers(1, 200), batch=st.integers(1, 20), ranks=st.integers(1, 4), drop=st.booleans())
@settings(deadline=None)
def test_training_sees_no_image_twice_in_an_epoch(size, batch, ranks, drop):
    sequence = partial(shuffled, size, None, 5, batch_size=batch, ranks=ranks)
    options = {"seed": 5, "ranks": ranks, "drop_last": drop, "sequence": lambda epoch: sequence(epoch=epoch)}
    orders = [Order(size, batch, rank=rank, **options) for rank in range(ranks)]
    parts = [list(order) for order in orders]
    seen = [index for part in parts for piece in part for index in piece.tolist()]
    assert len(set(seen)) == len(seen) <= size
    assert [len(order) for order in orders] == [len(part) for part in parts]
    assert len({len(part) for part in parts}) == 1  # every rank takes the same number of steps
    if not drop and size % (batch * ranks) in (0, *range(ranks, size + 1)):
        assert len(seen) == size


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_decoding_as_it_goes_equals_memory(workers, tmp_path):
    root = folder(tmp_path / "pictures", each=30, size=(17, 12))
    words = [
        "data=image_folder",
        f"data.root={root}",
        "data.image_size=10",
        "data.batch_size=8",
        "data.mean=[0.5]",
        "data.std=[0.2]",
    ]
    memory = load(*words, "data.in_memory=true")
    decoded = load(*words, "data.in_memory=false", f"data.workers={workers}")
    loader = decoded.train_dataloader()
    for epoch in (0, 1):  # persistent workers must hear of the next epoch
        loader.order.set_epoch(epoch)
        assert equal([decoded.on_after_batch_transfer(batch, 0) for batch in loader], batches(memory, epoch))


def test_resized_crops_belong_to_the_sample(tmp_path):
    root = folder(tmp_path / "pictures", each=30, size=(24, 20))
    words = ["data=image_folder", f"data.root={root}", "data.image_size=10", "data.batch_size=8"]
    words += ["data.augment.crop_padding=0", "data.augment.resized_crop=true"]
    one, two = (load(*words, f"data.workers={workers}") for workers in (0, 2))
    torch.manual_seed(1)
    first = batches(one, 1)
    torch.manual_seed(2)  # the global generator plays no part
    assert equal(first, batches(two, 1))
    assert not equal(first, batches(one, 2))


def test_a_stream_repeats_and_goes_on(tmp_path):
    root = parquet(tmp_path / "set", rows=60)
    words = ["data=hf", f"data.path={root}", "data.streaming=true", "data.validation=12", "data.batch_size=8"]
    words += ["data.image_size=12", "data.limit_train=48"]
    data = load(*words)
    assert data.sizes == {"train": 48, "val": 12, "test": 60}
    whole = batches(data, 1)
    assert len(whole) == 6
    assert equal(whole, batches(load(*words), 1))
    assert not equal(whole, batches(data, 2))
    data.load_state_dict({"position": {"epoch": 1, "done": 4}})
    assert equal(batches(data, 1), whole[4:])
    held_out = [image for batch in data.val_dataloader() for image in batch[0]]
    assert len(held_out) == 12
