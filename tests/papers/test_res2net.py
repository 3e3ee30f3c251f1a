"""Res2Conv against a loop in float64, and in any bottleneck: timm's Bottle2neck, forward and gradients."""

import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from naive import equal_by_order, equal_with_gradients, naive_conv, naive_norm, randomise
from timm.layers import SqueezeExcite
from timm.models.res2net import Bottle2neck
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn

from paperzoo.errors import UserError
from paperzoo.norms import is_norm
from paperzoo.papers.res2net import Res2Conv, multi_scale


def naive_mean(x: Tensor, stride: int) -> Tensor:
    """3x3 pixels, zeros of the border included."""
    ninth = torch.full((x.shape[1], 1, 3, 3), 1 / 9, dtype=x.dtype)
    return naive_conv(x, ninth, stride)


def naive_split(x: Tensor, s: dict, scale: int, stride: int, dilation: int, first: bool, training: bool) -> Tensor:
    splits = x.chunk(scale, 1)
    outputs: list[Tensor] = []
    for i in range(max(1, scale - 1)):
        seen = splits[i] if first or i == 0 else splits[i] + outputs[-1]
        y = naive_conv(seen, s[f"convs.{i}.weight"], stride, dilation)
        outputs.append(naive_norm(y, s, f"bns.{i}", training).clamp_min(0))
    if scale > 1:
        outputs.append(naive_mean(splits[-1], stride) if first else splits[-1])
    return torch.cat(outputs, 1)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("scale", "stride", "dilation", "groups", "first"),
    [(4, 1, 1, 1, False), (4, 2, 1, 1, True), (3, 1, 1, 1, True), (2, 1, 2, 1, False), (4, 1, 1, 2, False),
     (2, 2, 1, 3, True), (1, 1, 1, 1, False), (1, 2, 1, 1, True), (8, 1, 1, 1, False)],
)  # fmt: skip
def test_splits_equal_the_loop(scale, stride, dilation, groups, first, training, layout):
    torch.manual_seed(0)
    conv = Res2Conv(2 * scale * groups, scale, stride, dilation, groups, first=first).double().train(training)
    conv.to(memory_format=layout)
    randomise(conv)
    x = torch.randn(2, 2 * scale * groups, 7, 6, dtype=torch.float64).contiguous(memory_format=layout)
    equal_with_gradients(conv, lambda x, s: naive_split(x, s, scale, stride, dilation, first, training), x)


@pytest.mark.parametrize("excited", [False, True], ids=["plain", "SE"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("scale", "width", "cardinality"), [(4, 26, 1), (2, 48, 1), (8, 14, 1), (4, 4, 8)], ids=str)
@pytest.mark.parametrize(("stride", "first"), [(1, False), (1, True), (2, True)])
def test_in_resnets_and_resnexts_bottleneck_it_is_bottle2neck(
    scale, width, cardinality, stride, first, training, excited
):
    """The same parameters in the same order, outputs and gradients within 1e-5, in float64 to the last digits."""
    torch.manual_seed(0)
    chans, planes = 256 if not first else 64, 64
    shortcut = nn.Sequential(nn.Conv2d(chans, 256, 1, stride, bias=False), nn.BatchNorm2d(256)) if first else None
    attention = (lambda channels, **_: SqueezeExcite(channels, rd_ratio=1 / 16)) if excited else None
    options = {"downsample": shortcut, "cardinality": cardinality, "attn_layer": attention}
    layers = {"act_layer": nn.ReLU, "norm_layer": nn.BatchNorm2d}
    theirs = Bottle2neck(chans, planes, stride, base_width=width, scale=scale, **layers, **copy.deepcopy(options))
    ours = Bottleneck(chans, planes, stride, base_width=width * scale, **options)
    multi_scale(ours, scale)
    assert [len(p) for p in ours.parameters()] == [len(p) for p in theirs.parameters()]
    randomise(ours)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        x = torch.randn(2, chans, 6, 5, dtype=dtype)
        equal_by_order(ours.to(dtype).train(training), theirs.to(dtype).train(training), x, tolerance)


@pytest.mark.parametrize("cardinality", [1, 4])
def test_a_whole_network_becomes_res2net(cardinality):
    torch.manual_seed(0)
    widths = {1: 26, 4: 8}
    plan = {"layers": (2, 1, 1, 1), "cardinality": cardinality, "num_classes": 5}
    theirs = ResNet(Bottle2neck, base_width=widths[cardinality], block_args={"scale": 4}, **plan).eval()
    ours = multi_scale(ResNet(Bottleneck, base_width=4 * widths[cardinality], **plan), 4).eval()
    equal_by_order(ours, theirs, torch.randn(1, 3, 64, 64))


def test_torchvisions_resnext_and_what_it_keeps():
    """Groups, strides and dilations stay; the block's one ReLU leaves what was rectified as it is."""
    torch.manual_seed(0)
    network = torchvision.models.resnext50_32x4d(replace_stride_with_dilation=[False, False, True])
    before = [(m.conv2.stride, m.conv2.dilation, m.conv2.groups) for m in network.modules() if hasattr(m, "conv3")]
    multi_scale(network.double(), 2)
    splits = [m for m in network.modules() if isinstance(m, Res2Conv)]
    assert [(m.convs[0].stride, m.convs[0].dilation, m.convs[0].groups) for m in splits] == before
    assert [m.first for m in splits] == [i == 0 for n in (3, 4, 6, 3) for i in range(n)]
    assert {p.dtype for p in network.parameters()} == {torch.float64}
    block = network.layer2[1].eval()
    x = torch.randn(2, 512, 5, 5, dtype=torch.float64)
    inner = block.conv2(F.relu(block.bn1(block.conv1(x))))
    torch.testing.assert_close(block(x), F.relu(block.bn3(block.conv3(inner)) + x))


def test_layers_of_choice():
    conv = Res2Conv(16, act_layer=nn.SiLU, norm_layer=lambda channels, **_: nn.GroupNorm(1, channels))
    assert {type(m) for m in conv.modules() if is_norm(m)} == {nn.GroupNorm}
    assert isinstance(conv.act, nn.SiLU)
    meta = Res2Conv(16, device="meta", dtype=torch.float64)
    assert {(p.device.type, p.dtype) for p in meta.parameters()} == {("meta", torch.float64)}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Res2Conv(26, 4), "channels=26, scale=4, groups=1: channels must be a multiple of scale"),
        (lambda: Res2Conv(24, 4, groups=4), "scale=4, groups=4"),
        (lambda: Res2Conv(24, 0), "scale=0"),
        (lambda: Res2Conv(24, 4, stride=2), "stride=2: a stride needs first=True"),
        (lambda: multi_scale(torchvision.models.resnet18()), "ResNet has no bottleneck"),
    ],
)
def test_what_cannot_be_is_one_line(make, says):
    with pytest.raises(UserError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_network_that_cannot_be_changed_is_left_as_it_was():
    network = torchvision.models.resnet50()
    before = list(network.state_dict())
    with pytest.raises(UserError, match="scale=5"):
        multi_scale(network, 5)
    assert list(network.state_dict()) == before
