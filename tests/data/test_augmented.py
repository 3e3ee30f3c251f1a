"""torchvision's transforms by image: each draws from its own seed, whatever batch it is in; evaluation has none."""

import inspect

import pytest
import torch
from composed import compose
from timm.data import auto_augment
from timm.data.transforms_factory import transforms_imagenet_train
from torchvision.transforms import v2

from paperzoo.data.augmented.module import changed, seeds_of
from paperzoo.data.interface import make_data
from paperzoo.errors import UserError
from paperzoo.runs.identity import code_of, determining
from paperzoo.training import train

TARGET = "data._target_=paperzoo.data.augmented.module.AugmentedImages"
WORDS = ["model=resnet", "model.depth=11", "model.width=2", "trainer=cpu", "logger=none", "data.limit_train=32",
         "data.batch_size=8", "data.validation=50", "data.test=50", TARGET]  # fmt: skip
COLOURS = ("brightness", "contrast", "saturation", "hue")
POLICY = ["+data.policy.rand_augment=9", "+data.policy.brightness=0.4", "+data.policy.erase=0.5"]


def given(config):
    """The data, its batches of two epochs, and what a network is given of them."""
    data = make_data(config)
    data.trainer = type("Trainer", (), {"precision": "32-true"})()
    loader, loaded = data.train_dataloader(), []
    for epoch in range(2):
        loader.order.set_epoch(epoch)
        loaded += loader
    return data, loaded, [data.on_after_batch_transfer(batch, 0) for batch in loaded]


@pytest.mark.full
def test_every_image_is_torchvisions_from_its_own_seed():
    data, loaded, made = given(compose("train", [*WORDS, *POLICY]))
    plain = make_data(compose("train", WORDS))
    plain.trainer = data.trainer
    before = torch.get_rng_state()
    rand, jitter, erase = v2.RandAugment(2, 9), v2.ColorJitter(brightness=0.4), v2.RandomErasing(0.5)
    erased = 0
    for (images, labels, uniform, index), batch in zip(loaded, made, strict=True):
        for place in range(len(images)):
            row, column = (int(float(number) * 2**24) for number in uniform[place, :2])
            seed = row * 2**24 + column
            torch.manual_seed(seed)
            image = jitter(rand(images[place]))
            one = (image[None], labels[place : place + 1], uniform[place : place + 1], index[place : place + 1])
            normalised = plain.on_after_batch_transfer(one, 0).inputs[0]
            torch.manual_seed(seed ^ 0x9E3779B9)
            expected = erase(normalised)
            erased += int(not torch.equal(expected, normalised))
            assert torch.equal(batch.inputs[place], expected)
        assert torch.equal(batch.targets, labels)
    assert 0 < erased < 64
    torch.set_rng_state(before)
    data.on_after_batch_transfer(loaded[0], 0)
    assert torch.equal(torch.get_rng_state(), before)  # dropout and mixing draw what they drew


def test_a_batch_draws_what_its_images_draw_elsewhere_and_evaluation_nothing():
    data, loaded, made = given(compose("train", [*WORDS, *POLICY]))
    images, labels, uniform, index = loaded[0]
    turned = data.on_after_batch_transfer(tuple(part.flip(0) for part in (images, labels, uniform, index)), 0)
    assert torch.equal(turned.inputs.flip(0), made[0].inputs)
    first, second = ({int(i): x for batch in part for i, x in zip(batch.index, batch.inputs, strict=True)}
                     for part in (made[:4], made[4:]))  # fmt: skip
    assert len(first) == len(second) == 32
    assert sum(torch.equal(first[i], second[i]) for i in first) < 4  # another epoch, other numbers
    held = next(iter(data.val_dataloader()))
    normal = (held[0].float() / 255 - data.mean[0]) / data.std[0]
    assert torch.allclose(data.on_after_batch_transfer(held, 0).inputs, normal, atol=1e-5)
    assert changed(images[:0], [], v2.RandomErasing(1.0)).shape == images[:0].shape
    assert len(set(seeds_of(torch.cat([uniform, loaded[4][2]])))) == 16


@pytest.mark.full
def test_a_policy_is_part_of_the_identity_and_its_mistakes_are_one_line():
    config = compose("train", [*WORDS, *POLICY])
    assert determining(config)["data"]["policy"]["rand_augment"] == 9
    assert "paperzoo/data/augmented/module.py" in code_of(config)
    with pytest.raises(UserError, match=r"data.policy.rand_augment=31: must be"):
        compose("train", [*WORDS, "+data.policy.rand_augment=31"])
    with pytest.raises(UserError, match="its policy moves images"):
        compose("train", ["model=strip_pooling", "data=digit_maps", TARGET])


@pytest.mark.full
def test_a_run_trains_with_it_and_again_equal(tmp_path):
    words = [*WORDS, *POLICY, "trainer.max_epochs=1", "+data.policy.hue=0.1", f"paths.runs_dir={tmp_path}"]
    first, second = (train(compose("train", words)) for _ in range(2))
    assert first.identity == second.identity
    assert first.metrics == second.metrics


@pytest.mark.full
def test_the_words_of_augment_are_what_their_sources_have():
    def given(word):
        policy = compose("train", ["model=resnet", f"augment={word}"]).data.policy.model_dump()
        usual = {"rand_augment": None, "operations": 2, "erase": 0.0} | dict.fromkeys(COLOURS, 0.0)
        return {name: value for name, value in policy.items() if value != usual[name]}

    torchvisions = v2.RandAugment()
    assert torchvisions.num_ops == 2
    assert given("rand_augment") == {"rand_augment": torchvisions.magnitude}
    assert given("random_erasing") == {"erase": v2.RandomErasing().p}
    timms = inspect.signature(transforms_imagenet_train).parameters
    assert given("color_jitter") == dict.fromkeys(COLOURS[:3], timms["color_jitter"].default)
    (magnitude,) = {op.magnitude for op in auto_augment.rand_augment_transform("rand-m9", {}).ops}
    assert given("strong") == {"rand_augment": magnitude * 30 / auto_augment._LEVEL_DENOM, "erase": 0.25}


@pytest.mark.full
def test_a_word_of_augment_goes_with_an_experiment_and_with_its_own_keys():
    words = ["experiment=resnet/imagenet", "augment=rand_augment", "data.policy.erase=0.1"]
    data = compose("train", words).data
    assert (data.name, data.augment.resized_crop, data.batch_size) == ("imagenet", True, 256)
    assert (data.policy.rand_augment, data.policy.erase) == (9, 0.1)
    with pytest.raises(UserError, match="its policy moves images"):
        compose("train", ["model=strip_pooling", "data=digit_maps", "augment=strong"])


@pytest.mark.full
def test_two_steps_with_a_word_of_augment(tmp_path):
    words = [word for word in WORDS if word != TARGET]
    words += ["trainer.max_steps=2", "trainer.log_every_n_steps=1", f"paths.runs_dir={tmp_path}"]
    plain, changed = (train(compose("train", [*words, *more])) for more in ([], ["augment=strong"]))
    assert changed.config["data"]["policy"]["rand_augment"] == 27
    assert changed.epochs[-1]["step"] == plain.epochs[-1]["step"] == 2
    assert changed.epochs[-1]["train/loss"] != plain.epochs[-1]["train/loss"]
    assert changed.identity != plain.identity
