"""SqueezeNet: Fire against a loop in float64, networks against torchvision's, and that there is no norm to swap."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from composed import compose
from naive import equal_by_order, equal_with_gradients, naive_conv, randomise
from torch import Tensor
from torchvision.models.squeezenet import Fire

from paperzoo.accounting import count
from paperzoo.errors import UserError
from paperzoo.papers import squeezenet
from paperzoo.papers.squeezenet import BypassFire, SqueezeNet
from paperzoo.training import train

NAMES = ("squeezenet1_0", "squeezenet1_1", "squeezenet_small")


def naive_fire(x: Tensor, state: dict[str, Tensor], *, bypass: bool) -> Tensor:
    def conv(name: str, x: Tensor) -> Tensor:
        return F.relu(naive_conv(x, state[f"{name}.weight"]) + state[f"{name}.bias"].view(1, -1, 1, 1))

    squeezed = conv("squeeze", x)
    y = torch.cat([conv("expand1x1", squeezed), conv("expand3x3", squeezed)], 1)
    return x + y if bypass else y


@pytest.mark.parametrize(("squeeze_ratio", "pct_3x3"), [(0.125, 0.5), (0.75, 0.25)])
@pytest.mark.parametrize("bypass", [False, True])
def test_fire_equals_the_loop(bypass, squeeze_ratio, pct_3x3):
    torch.manual_seed(0)
    fires = SqueezeNet("1_1", bypass=bypass, squeeze_ratio=squeeze_ratio, pct_3x3=pct_3x3).features[3:5]
    for index, fire in enumerate(fires):
        assert fire.squeeze.out_channels == 128 * squeeze_ratio
        assert fire.expand3x3.out_channels == 128 * pct_3x3
        randomise(fire.double())
        x = torch.randn(2, fire.inplanes, 5, 4, dtype=torch.float64)
        # 64 channels come into the first, 128 into the second: only there can the input be added
        equal_with_gradients(fire, lambda x, s, i=index: naive_fire(x, s, bypass=bypass and i == 1), x)


@pytest.mark.parametrize("version", ["1_0", "1_1"])
def test_equals_torchvisions_and_takes_its_weights(version):
    torch.manual_seed(0)
    theirs = torchvision.models.SqueezeNet(version, 1000, 0.0).double()
    ours = timm.create_model(f"squeezenet{version}", drop_rate=0.0).double()
    squeezenet.load_official(ours, theirs.state_dict())
    equal_by_order(ours, theirs, torch.randn(2, 3, 48, 64, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [("squeezenet1_0", 1_248_424, 0.8189e9), ("squeezenet1_1", 1_235_496, 0.3492e9)],  # docs/facts.md
)
def test_counts_are_the_papers(name, parameters, macs):
    with torch.device("meta"):
        counted = count(timm.create_model(name), (3, 224, 224))
    assert counted.parameters == parameters
    assert counted.macs == pytest.approx(macs, rel=0.001)


def test_the_simple_bypass_is_around_every_other_fire_module():
    for name in NAMES:
        fires = [m for m in timm.create_model(name, bypass=True).modules() if isinstance(m, Fire)]
        assert [isinstance(m, BypassFire) for m in fires] == [False, True] * 4
        assert not any(isinstance(m, BypassFire) for m in timm.create_model(name).modules())


def test_the_small_network_is_version_1_1_without_the_first_stride():
    torch.manual_seed(0)
    theirs = torchvision.models.SqueezeNet("1_1", 10).eval()
    theirs.features[0].stride, theirs.features[0].padding = (1, 1), (1, 1)
    ours = timm.create_model("squeezenet_small").eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_image_works_and_a_smaller_one_is_refused(name):
    network = timm.create_model(name, in_chans=2).eval()
    least = network.smallest
    with torch.no_grad():
        assert network(torch.randn(1, 2, least, least + 1)).isfinite().all()
        with pytest.raises(RuntimeError, match="too small"):  # of torch: the limit is no higher than it must be
            network.features(torch.randn(1, 2, least - 1, least))
    with pytest.raises(UserError, match=f"images of {least - 1}x40 pixels; this one takes at least {least} a side"):
        network(torch.randn(1, 2, least - 1, 40))


@pytest.mark.parametrize("name", NAMES)
def test_heads_and_features(name):
    torch.manual_seed(0)
    network = timm.create_model(name, in_chans=1, bypass=True).eval()
    x = torch.randn(2, 1, 61, 47)
    last = network.forward_features(x)
    torch.testing.assert_close(network.forward_head(last, pre_logits=True), last.mean((2, 3)))
    head = network.get_classifier()
    assert network.get_submodule(network.get_classifier(name_only=True)) is head
    torch.testing.assert_close(network(x), F.relu(head(last)).mean((2, 3)))

    maps = timm.create_model(name, in_chans=1, bypass=True, features_only=True).eval()
    maps.load_state_dict(
        {k.replace("features.", "features_", 1): v for k, v in network.state_dict().items()}, strict=False
    )
    expected, y = [], x
    for layer in network.features:
        if isinstance(layer, torch.nn.MaxPool2d):
            expected.append(y)
        y = layer(y)
    for got, wanted, chans in zip(maps(x), [*expected, y], maps.feature_info.channels(), strict=True):
        torch.testing.assert_close(got, wanted)
        assert got.shape[1] == chans
    assert maps.feature_info.reduction() == ([1, 2, 4, 8] if name.endswith("small") else [2, 4, 8, 16])

    network.double().reset_classifier(3)
    assert network(x.double()).shape == (2, 3)
    network.reset_classifier(0)
    torch.testing.assert_close(network(x.double()), last.mean((2, 3)).double(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(timm.create_model(name, num_classes=0).eval()(torch.zeros(1, 3, 64, 64)).shape, (1, 512))


def test_checkpointing_changes_no_gradient():
    torch.manual_seed(0)
    network = timm.create_model("squeezenet_small", drop_rate=0.0)
    twin = copy.deepcopy(network)
    twin.set_grad_checkpointing()
    x = torch.randn(2, 3, 16, 16)
    for each in (network, twin):
        each(x).square().sum().backward()
    for one, two in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


@pytest.mark.parametrize("name", NAMES)
def test_exports(name):
    network = timm.create_model(name, in_chans=1).eval()
    batch = {"images": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(network, (torch.randn(4, 1, 32, 32),), dynamic_shapes=batch)
    x = torch.randn(7, 1, 32, 32)
    torch.testing.assert_close(program.module()(x), network(x))


@pytest.mark.parametrize(
    ("options", "says"),
    [({"squeeze_ratio": 0.001}, "leave 0 to squeeze"), ({"pct_3x3": 1.0}, "128 to 3x3 and 0 to 1x1 kernels")],
)
def test_a_layer_without_channels_is_refused(options, says):
    with pytest.raises(UserError, match=says):
        timm.create_model("squeezenet_small", **options)


def test_another_pooling_is_refused():
    with pytest.raises(UserError, match="takes avg alone"):
        timm.create_model("squeezenet_small").reset_classifier(5, "max")


@pytest.mark.parametrize("word", ["batch", "sync_batch", "layer", "instance", "group", "switchable", "mabn"])
def test_there_is_no_normalisation_to_replace(word):
    with pytest.raises(UserError) as caught:
        compose("train", ["model=squeezenet", f"norm={word}"])
    assert str(caught.value) == (
        f"norm={word} with model=squeezenet: its network has no normalisation layers to replace; use norm=paper"
    )


def test_synchronising_what_is_not_there_is_harmless(tmp_path):
    words = ["model=squeezenet", "trainer=cpu", "trainer.max_epochs=1", "data.limit_train=32", "data.batch_size=16",
             "data.validation=50", "data.test=50", "logger=none"]  # fmt: skip
    plain, synced = (
        train(compose("train", [*words, f"paths.runs_dir={tmp_path}/{value}", f"trainer.sync_batchnorm={value}"]))
        for value in ("false", "true")
    )
    assert plain.results["last"].metrics == synced.results["last"].metrics


def test_its_optimiser_is_its_own_unless_another_is_asked_for():
    assert compose("train", ["model=squeezenet"]).optimizer.name == "adamw"
    assert compose("train", ["model=squeezenet", "optimizer.lr=0.002"]).optimizer.lr == 0.002
    assert compose("train", ["model=squeezenet", "optimizer=sgd"]).optimizer.name == "sgd"
    assert compose("train", ["model=resnet"]).optimizer.name == "sgd"
