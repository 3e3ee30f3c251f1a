"""The small networks: one skeleton, six blocks, each against an independent reference."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision

import paperzoo.papers.res2net
import paperzoo.papers.resnet
import paperzoo.papers.resnext
import paperzoo.papers.scnet
import paperzoo.papers.senet
import paperzoo.papers.strip_pooling  # noqa: F401 (these register the networks)
from paperzoo.errors import UserError

# Papers whose small network differs by its block.
BLOCKS = ("resnet", "scnet", "resnext", "res2net", "senet", "strip_pooling")
NAMES = tuple(f"{slug}_small" for slug in BLOCKS)


def randomise(module: torch.nn.Module) -> None:
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if name.endswith("var") else torch.randn_like(value) * 0.5)


@pytest.mark.parametrize("depth", [11, 29])
def test_only_the_block_differs(depth):
    """Stem, shortcuts and classifier of all have the same names, shapes and kinds of layer."""

    def frame(name: str) -> dict[str, str]:
        network = timm.create_model(name, depth=depth, width=12, in_chans=1)
        shared = ("conv1", "bn1", "act1", "global_pool", "fc")
        return {n: repr(m) for n, m in network.named_modules() if n.startswith(shared) or "downsample." in n}

    expected = frame("resnet_small")
    assert len([n for n in expected if n.endswith("downsample.0")]) == 3
    assert all(frame(name) == expected for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("depth", [11, 20, 38])
def test_depth_counts_the_layers_from_image_to_logits(name, depth):
    """Stem and classifier and three layers a block: convolutions that stand side by side count once."""
    network = timm.create_model(name, depth=depth)
    blocks = [block for layer in (network.layer1, network.layer2, network.layer3) for block in layer]
    assert 2 + 3 * len(blocks) == depth
    assert [len(layer) for layer in (network.layer1, network.layer2, network.layer3)] == [(depth - 2) // 9] * 3


@pytest.mark.parametrize(("depth", "nearest"), [(0, 11), (1, 11), (21, 20), (26, 29), (-7, 11), (50, 47)])
def test_another_depth_is_refused_with_the_nearest(depth, nearest):
    with pytest.raises(UserError, match=rf"depth={depth}: must be 9n \+ 2 .*nearest is {nearest}$"):
        timm.create_model("scnet_small", depth=depth)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet_small", {"width": 0}),
        ("scnet_small", {"width": 1}),
        ("resnext_small", {"width": 4, "base_width": 14}),
        ("resnext_small", {"cardinality": 0}),
        ("res2net_small", {"width": 2}),
        ("res2net_small", {"scale": 0}),
        ("senet_small", {"width": 1}),
        ("senet_small", {"cardinality": 0}),
        ("senet_small", {"reduction": 0}),
    ],
)
def test_a_width_without_channels_is_refused(name, options):
    with pytest.raises(UserError):
        timm.create_model(name, **options)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_channels_and_batches(name):
    """28 and 32 pixels, odd and tiny sizes, one and three channels, a batch of one."""
    for chans, height, width in ((1, 28, 28), (3, 32, 32), (1, 17, 31), (2, 5, 9), (3, 1, 1)):
        network = timm.create_model(name, depth=11, width=8, in_chans=chans, num_classes=4, **extra(name)).eval()
        x = torch.randn(2, chans, height, width)
        both = network(x)
        alone = torch.cat([network(x[:1]), network(x[1:])])
        torch.testing.assert_close(alone, both, rtol=1e-4, atol=1e-4)
        assert network.forward_features(x).shape[2:] == (-(-height // 4), -(-width // 4))
        assert both.shape == (2, 4)


def extra(name: str) -> dict[str, int]:
    return {"cardinality": 4, "base_width": 24} if name == "resnext_small" else {}


@pytest.mark.parametrize("name", NAMES)
def test_odd_width_trains_every_parameter(name):
    torch.manual_seed(0)
    network = timm.create_model(name, depth=11, width=9, in_chans=1)
    F.cross_entropy(network(torch.randn(8, 1, 28, 28)), torch.arange(8)).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("name", NAMES)
def test_heads_and_features(name):
    torch.manual_seed(0)
    network = timm.create_model(name, in_chans=1).eval()
    x = torch.randn(2, 1, 28, 28)
    last = network.forward_features(x)
    torch.testing.assert_close(network.forward_head(last, pre_logits=True), last.mean((2, 3)))
    torch.testing.assert_close(network(x), last.mean((2, 3)) @ network.fc.weight.T + network.fc.bias)
    assert network.get_classifier() is network.fc
    assert network.get_classifier(name_only=True) == "fc"

    maps = timm.create_model(name, in_chans=1, features_only=True).eval()
    maps.load_state_dict(network.state_dict(), strict=False)
    stem = F.relu(network.bn1(network.conv1(x)))
    expected = [stem, network.layer1(stem), network.layer2(network.layer1(stem)), last]
    for got, wanted, chans in zip(maps(x), expected, maps.feature_info.channels(), strict=True):
        torch.testing.assert_close(got, wanted)
        assert got.shape[1] == chans
    assert maps.feature_info.reduction() == [1, 1, 2, 4]

    network.double().reset_classifier(3)
    assert network(x.double()).shape == (2, 3)
    network.reset_classifier(0)
    torch.testing.assert_close(network(x.double()), last.mean((2, 3)).double(), rtol=1e-4, atol=1e-5)


def test_dropout_is_before_the_classifier():
    torch.manual_seed(0)
    network = timm.create_model("resnet_small", width=4, drop_rate=0.5)
    features = torch.ones(200, network.num_features, 1, 1)
    pooled = network.forward_head(features, pre_logits=True)
    assert pooled.unique().tolist() == [0.0, 2.0]
    assert torch.equal(network.eval().forward_head(features, pre_logits=True), features.flatten(1))


def test_features_of_two_stages():
    maps = timm.create_model("scnet_small", features_only=True, out_indices=(1, 3)).eval()
    assert [tuple(m.shape[1:]) for m in maps(torch.zeros(1, 3, 32, 32))] == [(64, 32, 32), (256, 8, 8)]


def test_checkpointing_changes_no_gradient():
    torch.manual_seed(0)
    network = timm.create_model("scnet_small", depth=11, in_chans=1).double()
    twin = copy.deepcopy(network)
    twin.set_grad_checkpointing()
    x = torch.randn(4, 1, 12, 12, dtype=torch.float64)
    for each in (network, twin):
        each(x).square().sum().backward()
    for one, two in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


def test_another_norm_and_zero_gain():
    network = timm.create_model("scnet_small", norm_layer=lambda c: torch.nn.GroupNorm(1, c), zero_init_last=True)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    blocks = [block for layer in (network.layer1, network.layer2, network.layer3) for block in layer]
    assert all(block.bn3.weight.abs().max() == 0 for block in blocks)
    plain = timm.create_model("scnet_small")
    assert all(block.bn3.weight.min() == 1 for block in plain.layer1)


def against(ours: torch.nn.Module, theirs: torch.nn.Module, x: torch.Tensor) -> None:
    """Same weights by order: same outputs, gradients and running statistics, in training mode."""
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    grads = []
    for each in (ours, theirs):
        each.zero_grad()
        image = x.clone().requires_grad_()
        out = each(image)
        out.square().sum().backward()
        grads.append([out, image.grad, *(p.grad for p in each.parameters()), *each.buffers()])
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(
    ("name", "options", "reference"),
    [
        ("resnet_small", {}, {}),
        ("resnext_small", {}, {"groups": 8, "base_width": 14}),
        ("resnext_small", {"cardinality": 4, "base_width": 24}, {"groups": 4, "base_width": 24}),
    ],
)
@pytest.mark.parametrize(("stage", "index"), [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)])
def test_blocks_equal_torchvisions(name, options, reference, stage, index):
    torch.manual_seed(0)
    ours = getattr(timm.create_model(name, depth=20, **options).double(), f"layer{stage + 1}")[index]
    randomise(ours)
    planes, stride = 16 << stage, 2 if stage and not index else 1
    inplanes = ours.conv1.in_channels
    theirs = torchvision.models.resnet.Bottleneck(
        inplanes, planes, stride, copy.deepcopy(ours.downsample), **reference
    ).double()
    against(ours, theirs, torch.randn(2, inplanes, 9, 7, dtype=torch.float64))


@pytest.mark.parametrize(("scale", "base_width"), [(4, 26), (2, 48), (8, 14), (1, 64)])
@pytest.mark.parametrize(("stage", "index"), [(0, 0), (0, 1), (1, 0)])
def test_res2net_block_equals_the_equations(scale, base_width, stage, index):
    torch.manual_seed(0)
    network = timm.create_model("res2net_small", depth=20, scale=scale, base_width=base_width).double()
    block = getattr(network, f"layer{stage + 1}")[index].eval()
    randomise(block)
    stride, first = 2 if stage and not index else 1, index == 0
    x = torch.randn(2, block.conv1.in_channels, 9, 8, dtype=torch.float64)
    splits = F.relu(block.bn1(F.conv2d(x, block.conv1.weight))).chunk(scale, 1)
    outputs = []
    for i in range(max(1, scale - 1)):
        # y_i = K_i(x_i + y_(i-1)), the sum left out in the first block of a stage
        seen = splits[i] if first or not i else splits[i] + outputs[-1]
        outputs.append(F.relu(block.bns[i](F.conv2d(seen, block.convs[i].weight, stride=stride, padding=1))))
    if scale > 1:
        ninth = torch.full((splits[-1].shape[1], 1, 3, 3), 1 / 9, dtype=torch.float64)
        last = splits[-1]
        outputs.append(F.conv2d(last, ninth, stride=stride, padding=1, groups=last.shape[1]) if first else last)
    y = block.bn3(F.conv2d(torch.cat(outputs, 1), block.conv3.weight))
    shortcut = block.downsample(x) if first else x
    torch.testing.assert_close(block(x), F.relu(y + shortcut))


@pytest.mark.parametrize("name", NAMES)
def test_exports(name):
    """torch.export gives a program of a free batch size that computes the same."""
    network = timm.create_model(name, depth=11, in_chans=1).eval()
    batch = {"images": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(network, (torch.randn(4, 1, 28, 28),), dynamic_shapes=batch)
    x = torch.randn(7, 1, 28, 28)
    torch.testing.assert_close(program.module()(x), network(x))


@pytest.mark.parametrize("name", NAMES)
def test_memory_format_changes_nothing_but_speed(name):
    torch.manual_seed(0)
    network = timm.create_model(name, depth=11, in_chans=1).double()
    twin = copy.deepcopy(network).to(memory_format=torch.channels_last)
    x = torch.randn(3, 1, 28, 28, dtype=torch.float64)
    for each, image in ((network, x), (twin, x.contiguous(memory_format=torch.channels_last))):
        each(image).square().sum().backward()
    for one, two in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)
