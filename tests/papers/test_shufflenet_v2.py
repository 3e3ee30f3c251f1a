"""ShuffleNet V2 against its authors' layer order, written out in float64, and against torchvision's network."""

import json

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from plain import OFFICIAL, conv, drawn, equal_with_gradients, norm, official, randomise, relative
from torch import Tensor

from paperzoo.accounting import count
from paperzoo.errors import UserError
from paperzoo.papers.shufflenet_v2 import SplitUnit, interleave, load_official, split

COUNTS = {  # docs/facts.md
    "shufflenet_v2_0_5x": (1_365_792, 40.5e6),
    "shufflenet_v2_1_0x": (2_278_760, 145.8e6),
    "shufflenet_v2_1_5x": (3_506_720, 299.0e6),
    "shufflenet_v2_2_0x": (7_402_600, 590.8e6),
    "shufflenet_v2_x0_5": (1_366_792, 40.5e6),
    "shufflenet_v2_x1_0": (2_278_604, 144.9e6),
    "shufflenet_v2_x1_5": (3_503_624, 295.8e6),
    "shufflenet_v2_x2_0": (7_393_996, 583.3e6),
}
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def naive_split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Channel by channel, to and fro."""
    halves = [], []
    for channel in range(x.shape[1]):
        halves[channel % 2].append(x[:, channel])
    return torch.stack(halves[0], 1), torch.stack(halves[1], 1)


def transcribed_unit(x: Tensor, s: dict, p: str, stride: int, training: bool, splits: bool) -> Tensor:
    passing, y = naive_split(x) if splits else (x, x)
    if not splits:
        passing = norm(conv(passing, s, f"{p}branch_proj.0", stride), s, f"{p}branch_proj.1", training)
        passing = F.relu(norm(conv(passing, s, f"{p}branch_proj.2"), s, f"{p}branch_proj.3", training))
    y = F.relu(norm(conv(y, s, f"{p}branch_main.0"), s, f"{p}branch_main.1", training))
    y = norm(conv(y, s, f"{p}branch_main.3", stride), s, f"{p}branch_main.4", training)
    y = F.relu(norm(conv(y, s, f"{p}branch_main.5"), s, f"{p}branch_main.6", training))
    return torch.cat([passing, y], 1)


def transcribed(images: Tensor, s: dict, training: bool = False) -> Tensor:
    """The network: 3x3 / 2, max pool / 2, 4 + 8 + 4 units, a pointwise convolution, the mean."""
    x = F.relu(norm(conv(images, s, "first_conv.0", 2), s, "first_conv.1", training))
    x = F.max_pool2d(x, 3, 2, 1)
    for index in range(16):
        begins = index in (0, 4, 12)
        x = transcribed_unit(x, s, f"features.{index}.", 2 if begins else 1, training, not begins)
    x = F.relu(norm(conv(x, s, "conv_last.0"), s, "conv_last.1", training))
    return x.mean((2, 3)) @ s["classifier.0.weight"].T


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [2, 6, 8, 116])
def test_split_and_interleave_equal_a_loop(channels, layout):
    torch.manual_seed(0)
    x = torch.randn(3, channels, 4, 5, dtype=torch.float64).contiguous(memory_format=layout)
    before, twin = x.clone(), x.clone().requires_grad_()
    halves, expected = split(x.requires_grad_()), naive_split(twin)
    assert all(torch.equal(one, two) for one, two in zip(halves, expected, strict=True))
    assert halves[1].is_contiguous(memory_format=layout)
    weights = torch.randn_like(expected[0]), torch.randn_like(expected[1])
    grads = [
        torch.autograd.grad(sum((h * w).sum() for h, w in zip(pair, weights, strict=True)), v)[0]
        for pair, v in ((halves, x), (expected, twin))
    ]
    assert torch.equal(*grads)
    assert torch.equal(interleave(*split(x)), x)
    if channels > 2:  # a half of one channel has no layout of its own
        assert interleave(*split(x)).is_contiguous(memory_format=layout)
    assert torch.equal(x, before)
    even, odd = (w.contiguous(memory_format=layout) for w in weights)
    assert torch.equal(interleave(even, odd), F.channel_shuffle(torch.cat([even, odd], 1), 2))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("inp", "oup", "stride"), [(12, 12, 1), (6, 6, 1), (2, 2, 1), (8, 20, 2), (7, 18, 2), (4, 16, 1)]
)
def test_unit_equals_the_authors_order(inp, oup, stride, training, layout):
    torch.manual_seed(0)
    unit = SplitUnit(inp, oup, stride).double().train(training).to(memory_format=layout)
    randomise(unit)
    x = torch.randn(3, inp, 7, 6, dtype=torch.float64).contiguous(memory_format=layout)
    equal_with_gradients(unit, lambda x, s: transcribed_unit(x, s, "", stride, training, inp == oup), x)


@pytest.mark.parametrize("name", ["shufflenet_v2_1.0x", "shufflenet_v2_0.5x"])
def test_published_weights_give_the_authors_logits(name):
    weights = official(name)
    network = timm.create_model(name.replace(".", "_")).eval()
    load_official(network, {"state_dict": {f"module.{key}": value for key, value in weights.items()}})
    for size in ((224, 224), (65, 97)):
        images = torch.rand(1, 3, *size, dtype=torch.float64)
        expected = transcribed(images, weights)
        for layout in LAYOUTS:
            with torch.no_grad():
                got = network.to(memory_format=layout)(images.float().contiguous(memory_format=layout))
            assert relative(got, expected) < 1e-5
    network.double().train()
    load_official(network, weights)
    images = torch.randn(3, 3, 40, 40, dtype=torch.float64)
    equal_with_gradients(network, lambda x, s: transcribed(x, s, training=True), images)


@pytest.mark.parametrize("name", ["shufflenet_v2_1.0x", "shufflenet_v2_0.5x"])
def test_keys_shapes_and_order_are_the_published_ones(name):
    with torch.device("meta"):
        network = timm.create_model(name.replace(".", "_"))
    published = json.loads((OFFICIAL / f"{name}.json").read_text())["keys"]
    assert [(key, list(value.shape)) for key, value in network.state_dict().items()] == list(published.items())


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_papers(name):
    with torch.device("meta"):
        network = timm.create_model(name)
    counted = count(network, (3, 224, 224))
    parameters, macs = COUNTS[name]
    assert counted.parameters == parameters
    assert counted.macs == pytest.approx(macs, rel=0.002)  # to the digits that the source gives


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "shufflenet_v2_x1_0"])
def test_torchvisions_form_is_torchvisions_network(name, training, layout):
    """The same keys; outputs, gradients and running statistics within 1e-5, and to the last digits in float64."""
    theirs = getattr(torchvision.models, name)(weights=None).train(training)
    theirs.load_state_dict(drawn({key: list(value.shape) for key, value in theirs.state_dict().items()}))
    ours = timm.create_model(name).train(training)
    load_official(ours, theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 48)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        found = []
        for each in (net.to(dtype).to(memory_format=layout) for net in (ours, theirs)):
            each.zero_grad()
            x = images.to(dtype, copy=True).contiguous(memory_format=layout).requires_grad_()
            logits = each(x)
            logits.square().mean().backward()
            found.append([logits, x.grad, *(p.grad for p in each.parameters()), *each.buffers()])
        for one, two in zip(*found, strict=True):
            assert relative(one, two) < tolerance


def test_the_two_forms_are_two_networks():
    """Weights of the one are refused by the other, by name."""
    with pytest.raises(UserError, match=r"\d+ missing: first_conv.0.weight, .*\d+ unexpected: conv1.0.weight"):
        load_official(timm.create_model("shufflenet_v2_1_0x"), torchvision.models.shufflenet_v2_x1_0().state_dict())


def test_only_the_widest_drops():
    rates = {w: timm.create_model(f"shufflenet_v2_{w}x").drop.p for w in ("0_5", "1_0", "1_5", "2_0")}
    assert rates == {"0_5": 0, "1_0": 0, "1_5": 0, "2_0": 0.2}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SplitUnit(7, 7), "7 must be even"),
        (lambda: split(torch.zeros(1, 7, 2, 2)), "split of 7 channels"),
        (lambda: SplitUnit(8, 8, 2), "more than 8 where the shape changes"),
        (lambda: SplitUnit(8, 6), "more than 8 where the shape changes"),
        (lambda: timm.create_model("shufflenet_v2_small", depth=28), "nearest is 29"),
        (lambda: timm.create_model("shufflenet_v2_small", width=0), "model.width=0"),
    ],
)
def test_what_cannot_be_is_one_line(make, says):
    with pytest.raises(UserError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("width", [1, 3, 13])
def test_small_network_of_any_width_trains_every_parameter(width):
    torch.manual_seed(0)
    network = timm.create_model("shufflenet_v2_small", width=width, depth=20, in_chans=1)
    F.cross_entropy(network(torch.randn(16, 1, 28, 28)), torch.arange(16) % 10).backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert width == 1 or silent == []
