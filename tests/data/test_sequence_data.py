"""Sequences with an answer: the adding problem against a loop, digits by pixel against their images."""

import numpy as np
import pytest
import torch

from paperzoo.config import compose, dump, load_config
from paperzoo.data.interface import make_data
from paperzoo.errors import UserError

ADDING = ["model=lstm", "data=adding_problem", "trainer=cpu", "logger=none", "data.train=200", "data.validation=50",
          "data.test=50"]  # fmt: skip
DIGITS = ["model=lstm", "data=sequential_mnist", "trainer=cpu", "logger=none", "data.limit_train=100"]


def data_of(base, *words, **rank):
    return make_data(compose("train", [*base, *words]), **rank)


@pytest.mark.parametrize("length", [2, 7, 100])
def test_two_numbers_are_marked_one_in_each_half_and_their_sum_is_asked_for(length):
    found = data_of(ADDING, f"data.length={length}").found
    for name, inputs in found.inputs.items():
        for sequence, target in zip(inputs.tolist(), found.targets[name].tolist(), strict=True):
            places = [t for t, (_, mark) in enumerate(sequence) if mark == 1]
            assert sorted({mark for _, mark in sequence}) in ([0, 1], [1])
            assert len(places) == 2
            assert places[0] < length // 2 <= places[1] < length
            assert target == [pytest.approx(sequence[places[0]][0] + sequence[places[1]][0])]


def test_numbers_are_uniform_and_answering_one_has_the_error_that_is_said():
    """Of 20,000 sums, (s - 1)² has mean 1/6 and a standard deviation below 1/5: five of its errors are 0.007."""
    found = data_of(ADDING, "data.train=20000", "data.length=4").found
    values = found.inputs["train"][..., 0]
    assert 0 <= float(values.min()) <= float(values.max()) < 1
    assert float((found.targets["train"] - 1).square().mean()) == pytest.approx(1 / 6, abs=0.007)
    assert "1/6" in found.note


def test_sequences_are_of_their_own_seed_and_splits_differ():
    first, other_run, other = (data_of(ADDING, *words) for words in ([], ["seed=1"], ["data.draw_seed=1"]))
    assert first.fingerprint == other_run.fingerprint != other.fingerprint
    assert not torch.equal(first.found.inputs["val"], first.found.inputs["test"])
    longer = data_of(ADDING, "data.test=60")
    assert torch.equal(first.found.inputs["train"], longer.found.inputs["train"])


def test_an_epoch_has_every_sequence_once_and_ranks_share_it():
    ranks = [data_of(ADDING, "data.batch_size=10", rank=rank, ranks=2) for rank in (0, 1)]
    for loaders in (["train_dataloader"], ["val_dataloader"], ["plain_train_dataloader"]):
        seen = [loaded for data in ranks for loaded in getattr(data, loaders[0])()]
        index = torch.cat([loaded.index for loaded in seen])
        size = 50 if loaders == ["val_dataloader"] else 200
        assert index.sort().values.tolist() == list(range(size))
    whole = data_of(ADDING, "data.batch_size=20")
    first = next(iter(whole.train_dataloader()))
    assert torch.equal(torch.cat([next(iter(data.train_dataloader())).index for data in ranks]), first.index)
    assert torch.equal(first.inputs, whole.found.inputs["train"][first.index])
    assert first.index.tolist() != sorted(first.index.tolist())  # shuffled, not the streams of a text


def test_a_resumed_epoch_goes_on():
    data = data_of(ADDING, "data.batch_size=20")
    loader = iter(data.train_dataloader())
    for _ in range(3):
        next(loader)
    again = data_of(ADDING, "data.batch_size=20")
    again.load_state_dict(data.state_dict())
    rest = [loaded.index.tolist() for loaded in again.train_dataloader()]
    assert rest == [loaded.index.tolist() for loaded in loader]
    assert len(rest) == 7


@pytest.fixture(scope="module")
def images():
    """The same digits as images."""
    return make_data(compose("train", ["model=resnet", "trainer=cpu", "logger=none", "data.limit_train=100"]))


@pytest.mark.parametrize("size", [28, 14])
def test_digits_are_the_images_row_by_row_in_the_same_splits(images, size):
    data = data_of(DIGITS, f"data.size={size}")
    side = 28 // size
    train = images.parts["train"].images
    pixels = np.asarray(train, dtype=np.float64).reshape(100, 28, 28) / 255
    small = np.stack([
        [[image[r * side:(r + 1) * side, c * side:(c + 1) * side].mean() for c in range(size)] for r in range(size)]
        for image in pixels
    ])  # fmt: skip
    expected = (small - small.mean()) / small.std(ddof=1)
    found = data.found.inputs["train"]
    assert found.shape == (100, size**2, 1)
    np.testing.assert_allclose(found[:, :, 0].numpy(), expected.reshape(100, -1), atol=1e-5)
    for name in ("train", "val", "test"):
        assert np.array_equal(data.found.targets[name].numpy(), images.parts[name].labels)
    assert "10.0 %" in data.description


def test_one_permutation_for_all_images_and_runs():
    plain, permuted, other, again = (
        data_of(DIGITS, "data.size=7", *words)
        for words in ([], ["data.permuted=true"], ["data.permuted=true", "data.permutation_seed=1"],
                      ["data.permuted=true", "seed=1"])
    )  # fmt: skip
    order = torch.tensor([int((plain.found.inputs["train"] == column[:, None]).all((0, 2)).nonzero()[0])
                          for column in permuted.found.inputs["train"].unbind(1)
                          if column.std() > 0])  # fmt: skip
    assert order.tolist() != sorted(order.tolist())
    moving = [t for t in range(49) if permuted.found.inputs["train"][:, t].std() > 0]
    for name in ("val", "test"):
        assert torch.equal(plain.found.inputs[name][:, order], permuted.found.inputs[name][:, moving])
    assert again.fingerprint == permuted.fingerprint
    assert len({plain.fingerprint, permuted.fingerprint, other.fingerprint}) == 3


def test_samplers_of_classes_are_for_digits_and_the_sampler_is_the_datas():
    assert compose("train", DIGITS).sampler.name == compose("train", ADDING).sampler.name == "shuffled"
    assert compose("train", ["model=lstm"]).sampler.name == "streams"
    assert compose("train", ["model=lstm", "sampler=shuffled"]).sampler.name == "shuffled"
    data = data_of(DIGITS, "sampler=class_balanced", "data.size=7")
    assert len(next(iter(data.train_dataloader())).index) == 64
    config = compose("train", ADDING)
    assert load_config(dump(config)) == config


@pytest.mark.parametrize(("words", "line"), [
    ([*ADDING, "sampler=pk"], "sampler=pk: this data has no class for each training sample"),
    ([*ADDING, "mix=mixup"], "mix=mixup with data=adding_problem: mixes images; use mix=none"),
    ([*ADDING, "loss=cross_entropy"], "loss=cross_entropy with data=adding_problem: it is of a logit for each class"),
    ([*ADDING, "data.length=1"], "data.length=1: must be"),
    ([*DIGITS, "data.size=9"], "data.size=9: must be"),
    ([*DIGITS, "data.length=9"], "data.length=9: there is no such key"),
    (["model=resnet", "data=adding_problem"], "model=resnet with data=adding_problem: it does classification"),
])  # fmt: skip
def test_mistakes_are_one_line(words, line):
    with pytest.raises(UserError) as caught:
        compose("train", words)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
