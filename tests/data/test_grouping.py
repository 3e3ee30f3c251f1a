"""Batches of one orientation: against a loop that fills two buckets, over ranks, within an epoch."""

from itertools import chain

import pytest
import torch

from paperzoo.config import compose
from paperzoo.data.detection import coco, digits, grouping
from paperzoo.data.interface import make_data
from paperzoo.errors import UserError

WORDS = ["model=faster_rcnn", "logger=none", "data.images=23", "data.batch_size=4", "data.group_by_aspect=true"]


def filled(order, groups, size):
    """Put each sample into its group's bucket; a bucket that is full is a batch."""
    buckets, batches = {False: [], True: []}, []
    for sample in order.tolist():
        bucket = buckets[bool(groups[sample])]
        bucket.append(sample)
        if len(bucket) == size:
            batches.append(list(bucket))
            bucket.clear()
    return batches, buckets[False] + buckets[True]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("repeated", [False, True])
def test_grouping_equals_filling_buckets(size, repeated):
    random = torch.Generator().manual_seed(size)
    groups = torch.rand(37, generator=random) < 0.3
    order = torch.randint(37, (37,), generator=random) if repeated else torch.randperm(37, generator=random)
    batches, rest = filled(order, groups, size)
    found, count = grouping.grouped(order, groups, size)
    assert found.tolist() == [*chain(*batches), *rest]
    assert count == len(batches)


def test_epochs_are_of_one_length_even_if_samples_are_drawn_with_replacement():
    def drawn(epoch):
        return torch.randint(20, (20,), generator=torch.Generator().manual_seed(epoch))

    groups = torch.arange(20) < 7
    sequence, length = grouping.grouped_sequence(drawn, 20, groups, 4)
    counts = {len(filled(drawn(epoch), groups, 4)[0]) for epoch in range(20)}
    assert counts == {4, 5}
    assert {len(sequence(epoch)) for epoch in range(20)} == {length}


def wide(row):
    return row % 3 == 0  # 8 of 23


@pytest.fixture
def mixed(monkeypatch):
    """Drawn images every third of which says that it is wider than high."""
    monkeypatch.setattr(digits.Drawn, "size", lambda _, row: (10, 20) if wide(row) else (20, 10))


def order_of(*words, rank=0, ranks=1):
    return make_data(compose("train", [*WORDS, *words]), rank=rank, ranks=ranks).train_dataloader().order


@pytest.mark.full
def test_batches_are_of_one_orientation_equal_over_ranks_and_go_on_within_an_epoch(mixed):
    alone = order_of()
    two = [order_of("data.batch_size=2", rank=rank, ranks=2) for rank in (0, 1)]
    seen = []
    for epoch in (0, 1):
        for order in (alone, *two):
            order.set_epoch(epoch)
        batches = [batch.tolist() for batch in alone]
        assert len(batches) == len(alone) == 2 + 3  # 15 high ones: three are left out
        assert all(len({wide(sample) for sample in batch}) == 1 for batch in batches)
        assert len(set(chain(*batches))) == 20
        assert batches == [(a.tolist() + b.tolist()) for a, b in zip(*two, strict=True)]
        again = order_of()
        again.go_to({"epoch": epoch, "done": 2})
        assert [batch.tolist() for batch in again] == batches[2:]
        seen.append(batches)
    assert seen[0] != seen[1]


def test_sizes_are_those_of_the_annotations(tmp_path):
    entries = [coco.Entry(tmp_path / "none.jpg", *size) for size in ((10, 20), (20, 10), (10, 10), (9, 10))]
    assert grouping.wider(coco.Annotated(entries, {}), [3, 2, 1, 0]).tolist() == [True, False, False, True]
    data = make_data(compose("train", WORDS))
    assert data.source.train.size(0) == data.source.train.read(0).image.shape[1:]


@pytest.mark.full
def test_few_images_make_one_batch_of_both_orientations(mixed):
    (batch,) = order_of("data.batch_size=16")
    assert [wide(sample) for sample in batch.tolist()] == [False] * 15 + [True]
    with pytest.raises(UserError, match=r"data.group_by_aspect=true: with data.drop_last=false"):
        compose("train", [*WORDS, "data.drop_last=false"])
