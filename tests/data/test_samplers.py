"""Samplers: what an epoch visits, the same over any number of ranks, and from where a resumed run stopped."""

import numpy as np
import pytest
import torch

from paperzoo.config import compose
from paperzoo.data import samplers
from paperzoo.data.interface import make_data
from paperzoo.data.order import visits_before
from paperzoo.errors import UserError
from paperzoo.runs.identity import determining
from paperzoo.training import train

SMALL = ["model=resnet", "data.limit_train=120", "data.batch_size=24", "data.validation=50", "data.test=50"]
LABELS = torch.tensor([0] * 50 + [1] * 5 + [2] * 20 + [3])
COMMON = {"seed": 3, "batch_size": 8, "ranks": 1}


def drawn(name: str, epoch: int = 0, size: int = len(LABELS), **options) -> torch.Tensor:
    return getattr(samplers, name)(size, LABELS[:size], epoch=epoch, **{**COMMON, **options})


def visited(*words: str, ranks: int = 1, epoch: int = 0) -> list[list[int]]:
    """Indices of the global batches of an epoch, the ranks' parts joined."""
    parts = []
    for rank in range(ranks):
        data = make_data(compose("train", [*SMALL, f"data.batch_size={24 // ranks}", *words]), rank=rank, ranks=ranks)
        loader = data.train_dataloader()
        loader.order.set_epoch(epoch)
        parts.append([batch[3].tolist() for batch in loader])
    return [[index for part in batch for index in part] for batch in zip(*parts, strict=True)]


@pytest.mark.parametrize("name", ["shuffled", "sequential", "bootstrap", "class_balanced"])
def test_an_order_is_a_function_of_seed_and_epoch(name):
    assert torch.equal(drawn(name), drawn(name))
    if name != "sequential":
        assert not torch.equal(drawn(name), drawn(name, seed=4))
        assert not torch.equal(drawn(name), drawn(name, epoch=1))


def test_shuffled_and_sequential_visit_each_once():
    assert sorted(drawn("shuffled").tolist()) == drawn("sequential").tolist() == list(range(len(LABELS)))


def test_a_bootstrap_is_drawn_once_for_the_run():
    counts = [torch.bincount(drawn("bootstrap", epoch), minlength=len(LABELS)) for epoch in (0, 1)]
    assert torch.equal(*counts)
    assert int(counts[0].sum()) == len(LABELS)
    assert int(counts[0].max()) > 1
    assert not torch.equal(counts[0], torch.bincount(drawn("bootstrap", draw=1), minlength=len(LABELS)))


def test_class_balanced_draws_every_class_as_often():
    classes = torch.cat([LABELS[drawn("class_balanced", epoch)] for epoch in range(200)])
    share = torch.bincount(classes).double() / len(classes)
    assert share.tolist() == pytest.approx([0.25] * 4, abs=0.015)  # 15,200 draws: sd .0035


def test_weighted_draws_by_weight(tmp_path):
    weights = [1.0, 0.0, 3.0, 0.0]
    classes = torch.cat([LABELS[drawn("weighted", epoch, class_weights=weights)] for epoch in range(200)])
    assert set(classes.tolist()) == {0, 2}
    assert float((classes == 2).double().mean()) == pytest.approx(60 / 110, abs=0.017)
    np.save(tmp_path / "w.npy", np.arange(len(LABELS)) == 7)
    assert drawn("weighted", file=str(tmp_path / "w.npy")).tolist() == [7] * len(LABELS)


def test_pk_batches_have_p_identities_with_k_samples():
    order = drawn("pk", batch_size=8, k=2)
    batches = order.view(-1, 8)
    for batch in batches:
        identities = LABELS[batch].view(4, 2)
        assert torch.equal(identities[:, 0], identities[:, 1])
        assert len(set(identities[:, 0].tolist())) == 4
    twice = batches[LABELS[batches] == 0].view(-1, 2)
    assert (twice[:, 0] != twice[:, 1]).all()  # different samples where there are so many
    assert not torch.equal(order, drawn("pk", batch_size=8, k=2, epoch=1))


@pytest.mark.parametrize(("p", "ranks"), [(2, 1), (3, 1), (2, 2), (4, 1)])
def test_pk_batches_between_two_rounds_have_no_identity_twice(p, ranks):
    """Four identities do not go into batches of three: these are filled from the next round."""
    labels = torch.arange(4).repeat_interleave(20)
    for epoch in range(5):
        order = samplers.pk(80, labels, seed=0, epoch=epoch, batch_size=2 * p, ranks=ranks, k=2)
        batches = labels[order].view(-1, p * ranks, 2)[:, :, 0]
        assert len(batches) == 40 // (p * ranks)
        assert all(len(set(batch)) == p * ranks for batch in batches.tolist())
        assert labels[order].bincount().min() >= 2 * 9  # each in all ten rounds, but for one that a batch does not fill


@pytest.mark.parametrize(("name", "options", "line"), [
    ("pk", {"batch_size": 9, "k": 2}, "sampler.k=2 must divide it"),
    ("pk", {"batch_size": 16, "k": 2}, "needs 8 identities, there are 4"),
    ("pk", {"batch_size": 2, "k": 2}, "one identity into a batch, of which no triplet can be formed; at least 4"),
    ("weighted", {}, "give sampler.class_weights or sampler.file"),
    ("weighted", {"class_weights": [1.0]}, "has 1 weights, the classes are 4"),
    ("weighted", {"class_weights": [0.0] * 4}, "must be at least 0, and one of them above"),
    ("weighted", {"file": "/nowhere.npy"}, "sampler.file=/nowhere.npy: cannot be read"),
])  # fmt: skip
def test_what_cannot_be_sampled_is_one_line(name, options, line):
    with pytest.raises(UserError, match=line):
        drawn(name, **options)


@pytest.mark.parametrize(("words", "line"), [
    (["sampler._target_=math.sqrt"], "sampler._target_=math.sqrt: cannot be called as one"),
    (["sampler=weighted", "sampler.file=/nowhere.npy"], "sampler.file=/nowhere.npy: cannot be read"),
    (["sampler=weighted", "sampler.class_weights=[1,1]"], "has 2 weights, the classes are 10"),
    (["optimizer._target_=torch.optim.RMSprop"], "_target_=torch.optim.RMSprop: does not take"),
])  # fmt: skip
def test_a_run_that_cannot_begin_leaves_nothing_behind(words, line, tmp_path):
    config = compose("train", [*SMALL, *words, f"paths.runs_dir={tmp_path}", "trainer=cpu", "logger=none"])
    with pytest.raises(UserError, match=line):
        train(config)
    assert not list(tmp_path.iterdir())


def test_weights_of_samples_are_part_of_the_identity(tmp_path):
    file = tmp_path / "w.npy"
    config = compose("train", [*SMALL, "sampler=weighted", f"sampler.file={file}"])
    found = []
    for heavy in (7, 7, 8):
        np.save(file, np.arange(120) == heavy)
        found.append(determining(config))
    assert found[0] == found[1] != found[2]


def test_a_stage_that_leaves_less_than_a_batch_is_one_line():
    data = make_data(compose("train", SMALL))
    data.view = torch.arange(23)
    with pytest.raises(UserError, match="an epoch has 23 training samples, less than one batch"):
        data.train_dataloader()


@pytest.mark.parametrize("words", [["sampler=bootstrap"], ["sampler=class_balanced"], ["sampler=pk", "sampler.k=3"]])
def test_two_ranks_see_what_one_sees(words):
    assert visited(*words, ranks=2) == visited(*words)
    assert visited(*words, epoch=1) != visited(*words)


def test_a_resumed_run_goes_on_where_it_stopped():
    config = compose("train", [*SMALL, "sampler=class_balanced"])
    whole = [batch[3].tolist() for batch in make_data(config).train_dataloader()]
    data = make_data(config)
    iterator = iter(data.train_dataloader())
    for _ in range(2):
        next(iterator)
    state = data.state_dict()
    resumed = make_data(config)
    resumed.load_state_dict(state)
    assert [batch[3].tolist() for batch in resumed.train_dataloader()] == whole[2:]


def test_a_stage_restricts_the_training_samples():
    data = make_data(compose("train", SMALL))
    data.view = torch.arange(0, 120, 2)
    seen = torch.cat([batch[3] for batch in data.train_dataloader()])
    assert len(seen) == 48  # two batches of 24 of the 60
    assert not (seen % 2).any()
    data.weights = torch.arange(120, dtype=torch.float32)
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert torch.equal(batch.weights, batch.index.float())


def test_visits_of_a_sample_are_counted():
    order = torch.tensor([4, 2, 4, 4, 0, 2])
    assert visits_before(order).tolist() == [0, 0, 1, 2, 0, 1]


def test_a_sample_that_comes_twice_in_an_epoch_is_augmented_twice():
    def draws(ranks: int) -> dict[int, list[tuple[float, ...]]]:
        """The random numbers of each image, in the order of its visits."""
        found: dict[int, list[tuple[float, ...]]] = {}
        words = [*SMALL, "sampler=bootstrap", f"data.batch_size={24 // ranks}"]
        loaders = [
            make_data(compose("train", words), rank=rank, ranks=ranks).train_dataloader() for rank in range(ranks)
        ]
        for parts in zip(*loaders, strict=True):
            for _, _, drawn, index in parts:
                for image, numbers in zip(index.tolist(), drawn.tolist(), strict=True):
                    found.setdefault(image, []).append(tuple(numbers))
        return found

    found = draws(1)
    assert any(len(numbers) > 1 for numbers in found.values())
    assert all(len(set(numbers)) == len(numbers) for numbers in found.values())
    assert draws(2) == found
    plain = next(iter(make_data(compose("train", SMALL)).train_dataloader()))
    table = dict(zip(plain[3].tolist(), map(tuple, plain[2].tolist()), strict=True))
    assert all(found[image][0] == numbers for image, numbers in table.items() if image in found)
