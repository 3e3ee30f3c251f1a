"""ShuffleNet V1 against its authors' layer order, written out in float64; what both ShuffleNets' frame does."""

import copy
import json

import pytest
import timm
import torch
import torch.nn.functional as F
from plain import OFFICIAL, conv, equal_with_gradients, norm, official, randomise, relative
from torch import Tensor, nn

import paperzoo.papers.shufflenet_v2  # noqa: F401 (registers the networks)
from paperzoo.accounting import count
from paperzoo.errors import UserError
from paperzoo.norms import convert, is_norm
from paperzoo.papers.shufflenet_v1 import ShuffleUnit, channel_shuffle, load_official

COUNTS = {  # docs/facts.md
    "g3_0_5x": (717_324, 37.6e6),
    "g3_1_0x": (1_864_728, 137.5e6),
    "g3_1_5x": (3_441_168, 292.4e6),
    "g3_2_0x": (5_449_776, 524.0e6),
    "g8_0_5x": (1_010_448, 40.5e6),
    "g8_1_0x": (2_433_768, 138.4e6),
    "g8_1_5x": (4_268_952, 290.2e6),
    "g8_2_0x": (6_521_232, 521.9e6),
}
FRAMED = ("shufflenet_v1_g3_0_5x", "shufflenet_v2_0_5x", "shufflenet_v2_x0_5")  # both papers, and torchvision's form
SMALL = ("shufflenet_v1_small", "shufflenet_v2_small")
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def naive_shuffle(x: Tensor, groups: int) -> Tensor:
    """Channel by channel: the authors read channels as rows of ``groups``, and number them by columns."""
    shuffled = [None] * x.shape[1]
    for channel in range(x.shape[1]):
        row, column = channel // groups, channel % groups
        shuffled[column * (x.shape[1] // groups) + row] = x[:, channel]
    return torch.stack(shuffled, 1)


def transcribed_unit(x: Tensor, s: dict, p: str, stride: int, groups: int, training: bool, joins: bool) -> Tensor:
    y = F.relu(norm(conv(x, s, f"{p}branch_main_1.0"), s, f"{p}branch_main_1.1", training))
    y = norm(conv(y, s, f"{p}branch_main_1.3", stride), s, f"{p}branch_main_1.4", training)
    y = naive_shuffle(y, groups)
    y = norm(conv(y, s, f"{p}branch_main_2.0"), s, f"{p}branch_main_2.1", training)
    if not joins:
        return F.relu(x + y)
    shortcut = F.avg_pool2d(x, 3, 2, 1) if stride == 2 else x
    return torch.cat([shortcut, F.relu(y)], 1)


def transcribed(images: Tensor, s: dict, groups: int, training: bool = False) -> Tensor:
    """The network: 3x3 / 2, max pool / 2, 4 + 8 + 4 units of which the first of each stage has a stride, the mean."""
    x = F.relu(norm(conv(images, s, "first_conv.0", 2), s, "first_conv.1", training))
    x = F.max_pool2d(x, 3, 2, 1)
    for index in range(16):
        stride = 2 if index in (0, 4, 12) else 1
        x = transcribed_unit(x, s, f"features.{index}.", stride, groups, training, stride == 2)
    return x.mean((2, 3)) @ s["classifier.0.weight"].T


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("channels", "groups"), [(12, 1), (12, 2), (12, 3), (12, 4), (24, 8), (6, 6), (1, 1)])
def test_shuffle_equals_a_loop(channels, groups, layout):
    torch.manual_seed(0)
    x = torch.randn(3, channels, 4, 5, dtype=torch.float64).contiguous(memory_format=layout)
    before, twin = x.clone(), x.clone().requires_grad_()
    shuffled, expected = channel_shuffle(x.requires_grad_(), groups), naive_shuffle(twin, groups)
    assert torch.equal(shuffled, expected)
    assert shuffled.is_contiguous(memory_format=layout)
    weights = torch.randn_like(expected)
    (ours,), (theirs,) = (torch.autograd.grad((y * weights).sum(), v) for y, v in ((shuffled, x), (expected, twin)))
    assert torch.equal(ours, theirs)
    assert torch.equal(x, before)


def test_shuffle_by_hand_and_the_other_direction():
    """Six channels, three groups: rows (0 1 2), (3 4 5) become columns; the paper's text has the inverse."""
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert channel_shuffle(x, 3).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert F.channel_shuffle(x, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]
    assert torch.equal(channel_shuffle(F.channel_shuffle(x, 3), 3), x)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("inp", "oup", "stride", "groups", "first"),
    [(24, 24, 1, 3, None), (24, 48, 2, 3, None), (8, 32, 2, 3, 1), (16, 64, 2, 8, None), (6, 24, 1, 2, 1),
     (12, 12, 1, 1, None), (8, 36, 2, 4, None)],
)  # fmt: skip
def test_unit_equals_the_authors_order(inp, oup, stride, groups, first, training, layout):
    torch.manual_seed(0)
    unit = ShuffleUnit(inp, oup, stride, groups, first).double().train(training).to(memory_format=layout)
    randomise(unit)
    joins = inp != oup
    x = torch.randn(3, inp, 7, 6, dtype=torch.float64).contiguous(memory_format=layout)
    equal_with_gradients(unit, lambda x, s: transcribed_unit(x, s, "", stride, groups, training, joins), x)


@pytest.mark.parametrize("name", ["shufflenet_v1_g3_1.0x", "shufflenet_v1_g8_0.5x"])
def test_published_weights_give_the_authors_logits(name):
    weights, groups = official(name), int(name[15])
    network = timm.create_model(name.replace(".", "_")).eval()
    load_official(network, {"state_dict": {f"module.{key}": value for key, value in weights.items()}})
    for size in ((224, 224), (65, 97)):
        images = torch.rand(1, 3, *size, dtype=torch.float64)
        expected = transcribed(images, weights, groups)
        for layout in LAYOUTS:
            with torch.no_grad():
                got = network.to(memory_format=layout)(images.float().contiguous(memory_format=layout))
            assert relative(got, expected) < 1e-5
    network.double().train()
    load_official(network, weights)
    equal_with_gradients(network, lambda x, s: transcribed(x, s, groups, training=True), images[:, :, :40, :40].repeat(
        3, 1, 1, 1) + torch.randn(3, 3, 40, 40, dtype=torch.float64))  # fmt: skip


@pytest.mark.parametrize("name", ["shufflenet_v1_g3_1.0x", "shufflenet_v1_g8_0.5x"])
def test_keys_shapes_and_order_are_the_published_ones(name):
    with torch.device("meta"):
        network = timm.create_model(name.replace(".", "_"))
    published = json.loads((OFFICIAL / f"{name}.json").read_text())["keys"]
    assert [(key, list(value.shape)) for key, value in network.state_dict().items()] == list(published.items())


def test_another_networks_weights_are_refused_by_name():
    network = timm.create_model("shufflenet_v1_g3_1_0x")
    with pytest.raises(UserError, match=r"of another shape: first_conv.0.weight is 16x3x3x3, the network has 24x3x3x3"):
        load_official(network, official("shufflenet_v1_g8_0.5x"))


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_papers(name):
    with torch.device("meta"):
        network = timm.create_model(f"shufflenet_v1_{name}")
    counted = count(network, (3, 224, 224))
    parameters, macs = COUNTS[name]
    assert counted.parameters == parameters
    assert counted.macs == pytest.approx(macs, rel=0.002)  # to the digits that the source gives


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 8])
def test_every_number_of_groups_costs_the_same_small(groups):
    """As in Table 1, more groups have more channels at equal complexity: resnet_small's, 15.4 M MACs."""
    network = timm.create_model("shufflenet_v1_small", groups=groups, in_chans=1)
    assert count(network, (1, 28, 28)).macs == pytest.approx(15_368_960, rel=0.11)
    found = [m.groups for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    pointwise = [m for m in found if m != 1] if groups > 1 else found
    units = [m for m in network.modules() if isinstance(m, ShuffleUnit)]
    assert len(units) == 9
    shortcuts = 3  # the skeleton's, which the units do without
    assert len(pointwise) == (2 * 9 - 1 if groups > 1 else 2 * 9)
    assert not any("downsample" in name for name, _ in network.named_modules()), shortcuts


@pytest.mark.parametrize("width", ["0_5x", "1_0x", "1_5x", "2_0x"])
@pytest.mark.parametrize("groups", [1, 2, 3, 4, 8])
def test_groups_and_stages_of_every_network(groups, width):
    with torch.device("meta"):
        network = timm.create_model(f"shufflenet_v1_g{groups}_{width}")
    factor = float(width[:-1].replace("_", "."))
    first = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}[groups] * factor  # Table 1
    assert [info["num_chs"] for info in network.feature_info][2:] == [first, 2 * first, 4 * first]
    pairs = [(unit.branch_main_1[0].groups, unit.branch_main_2[0].groups) for unit in network.features]
    assert pairs == [(1, groups), *[(groups, groups)] * 15]


def test_without_the_shuffle_groups_never_meet():
    """The ablation: a change in one group's input stays in that group."""
    torch.manual_seed(0)
    for shuffle in (True, False):
        unit = ShuffleUnit(36, 36, groups=3, shuffle=shuffle).eval()
        x = torch.randn(2, 36, 5, 5)
        changed = x.clone()
        changed[:, :12] += 1
        differs = (unit(changed) != unit(x)).any(dim=3).any(dim=2).any(dim=0).view(3, 12).any(dim=1)
        assert differs.tolist() == ([True] * 3 if shuffle else [True, False, False])
    network = timm.create_model("shufflenet_v1_g3_0_5x", shuffle=False)
    assert not any(unit.shuffle for unit in network.features)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ShuffleUnit(25, 48, 2, groups=3), "25 must be a multiple of 3 and 23"),
        (lambda: ShuffleUnit(24, 47, 2, groups=3), "23, the channels it makes, a positive one of 3"),
        (lambda: ShuffleUnit(24, 24, 2), "24 must be a multiple of 3 and 0"),
        (lambda: ShuffleUnit(24, 24, groups=0), "groups=0"),
        (lambda: channel_shuffle(torch.zeros(1, 8, 2, 2), 3), "of 8 channels with groups=3"),  # torch took 2 groups
        (lambda: channel_shuffle(torch.zeros(1, 8, 2, 2), 0), "of 8 channels with groups=0"),
        (lambda: timm.create_model("shufflenet_v1_small", width=32), "groups=3: .* choose another width"),
        (
            lambda: timm.create_model("shufflenet_v1_small", groups=5),
            r"model.groups=5: must be one of 1, 2, 3, 4, 8, or",
        ),
        (lambda: timm.create_model("shufflenet_v1_small", depth=30), "nearest is 29"),
    ],
)
def test_what_cannot_be_is_one_line(make, says):
    with pytest.raises(UserError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


@torch.no_grad()
def test_weights_start_as_the_authors():
    torch.manual_seed(0)
    network = timm.create_model("shufflenet_v1_g3_2_0x")
    assert network.first_conv[0].weight.std() == pytest.approx(0.01, rel=0.1)
    unit = network.features[6]
    assert unit.branch_main_1[0].weight.std() == pytest.approx(3 / 960, rel=0.05)
    assert unit.branch_main_1[3].weight.std() == pytest.approx(1, rel=0.05)
    assert {float(v) for m in network.modules() if is_norm(m) for v in m.bias} == {float(torch.tensor(0.0001))}


# what the frame does, for both papers


@pytest.mark.parametrize("name", FRAMED)
def test_sizes_channels_and_batches(name):
    """Odd and tiny images, one and three channels; each image of a batch as it would be alone."""
    for chans, height, width in ((1, 28, 28), (3, 32, 32), (1, 17, 71), (2, 5, 9), (3, 1, 1)):
        network = timm.create_model(name, in_chans=chans, num_classes=4)
        randomise(network)
        network.eval()
        x = torch.randn(2, chans, height, width)
        both = network(x)
        torch.testing.assert_close(torch.cat([network(x[:1]), network(x[1:])]), both, rtol=1e-4, atol=1e-4)
        assert network.forward_features(x).shape[2:] == (-(-height // 32), -(-width // 32))
        assert both.shape == (2, 4)


@pytest.mark.parametrize("name", FRAMED)
def test_heads_and_features(name):
    torch.manual_seed(0)
    network = timm.create_model(name, in_chans=1, num_classes=10)
    randomise(network)
    network.eval()
    x = torch.randn(2, 1, 64, 48)
    last = network.forward_features(x)
    torch.testing.assert_close(network.forward_head(last, pre_logits=True), last.mean((2, 3)))
    layer = network.get_classifier()
    torch.testing.assert_close(network(x), F.linear(last.mean((2, 3)), layer.weight, layer.bias))
    assert network.get_submodule(network.get_classifier(name_only=True)) is layer

    maps = timm.create_model(name, in_chans=1, features_only=True).eval()
    ours = list(network.state_dict().values())[: len(maps.state_dict())]  # the same order, up to the last stage
    maps.load_state_dict(dict(zip(maps.state_dict(), ours, strict=True)))
    got = maps(x)
    assert [m.shape[1] for m in got] == maps.feature_info.channels()
    assert [64 // m.shape[2] for m in got] == maps.feature_info.reduction() == [2, 4, 8, 16, 32]
    stem, pool = (network.conv1, network.maxpool) if "_x" in name else (network.first_conv, network.maxpool)
    expected = [F.relu(stem[1](stem[0](x)))]
    expected.append(pool(expected[0]))
    units = [*network.stage2, *network.stage3, *network.stage4] if "_x" in name else network.features
    y = expected[1]
    for index, unit in enumerate(units):
        y = unit(y)
        expected += [y] if index in (3, 11, 15) else []
    for one, two in zip(got, expected, strict=True):
        torch.testing.assert_close(one, two)

    x = x.double()
    network.double().reset_classifier(3, "max")
    assert network(x).shape == (2, 3)
    network.reset_classifier(0)
    torch.testing.assert_close(network(x), network.forward_features(x).amax((2, 3)), rtol=1e-4, atol=1e-4)
    network.reset_classifier(0, "")  # timm's way to have the maps
    assert torch.equal(network(x), network.forward_features(x))
    network.reset_classifier(3, "avg")
    assert network(x).shape == (2, 3)


@pytest.mark.parametrize("name", FRAMED)
def test_checkpointing_changes_no_gradient(name):
    torch.manual_seed(0)
    network = timm.create_model(name, in_chans=1, num_classes=5).double()
    twin = copy.deepcopy(network)
    twin.set_grad_checkpointing()
    x = torch.randn(2, 1, 40, 40, dtype=torch.float64)
    for each in (network, twin):
        each(x).square().sum().backward()
    for one, two in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


@pytest.mark.parametrize("name", FRAMED)
def test_exports(name):
    """torch.export gives a program of a free batch size that computes the same."""
    network = timm.create_model(name, in_chans=1, num_classes=10).eval()
    batch = {"images": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(network, (torch.randn(4, 1, 28, 28),), dynamic_shapes=batch)
    x = torch.randn(7, 1, 28, 28)
    torch.testing.assert_close(program.module()(x), network(x))


@pytest.mark.parametrize("name", [*FRAMED, *SMALL])
def test_memory_format_changes_nothing_but_speed(name):
    torch.manual_seed(0)
    network = timm.create_model(name, in_chans=1, num_classes=10).double()
    twin = copy.deepcopy(network).to(memory_format=torch.channels_last)
    x = torch.randn(3, 1, 40, 36, dtype=torch.float64)
    outputs = []
    for each, image in ((network, x), (twin, x.contiguous(memory_format=torch.channels_last))):
        outputs.append(each(image))
        outputs[-1].square().sum().backward()
    torch.testing.assert_close(*outputs)
    for one, two in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)
    maps = twin.forward_features(x.contiguous(memory_format=torch.channels_last))
    assert maps.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("word", ["batch", "sync_batch", "layer", "instance", "group", "switchable", "mabn"])
@pytest.mark.parametrize("name", [*FRAMED, *SMALL])
def test_every_norm_trains(name, word):
    torch.manual_seed(0)
    network = timm.create_model(name, in_chans=1, num_classes=4)
    norms = sum(map(is_norm, network.modules()))
    convert(network, word, **({"B": 4} if word == "mabn" else {}))
    assert sum(map(is_norm, network.modules())) == norms
    F.cross_entropy(network(torch.randn(4, 1, 40, 40)), torch.arange(4)).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("name", [*FRAMED, *SMALL])
def test_a_norm_layer_of_choice(name):
    network = timm.create_model(name, norm_layer=lambda channels: nn.GroupNorm(1, channels))
    assert {type(m) for m in network.modules() if is_norm(m)} == {nn.GroupNorm}
    assert network.eval()(torch.randn(1, 3, 32, 32)).isfinite().all()
