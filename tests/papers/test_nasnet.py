"""NASNet-A against a transcription of the authors' mobile network, timm's large one, and loops in float64."""

import copy
import json
from pathlib import Path

import pytest
import shapes
import timm
import torch
import torch.nn.functional as F
from composed import compose
from timm.models import nasnet as timms
from torch import Tensor

import paperzoo.papers.resnet  # noqa: F401 (registers resnet_small)
from paperzoo.accounting import count
from paperzoo.errors import UserError
from paperzoo.papers.nasnet import NORMAL, REDUCTION, Cell, NASNetA, load_official
from paperzoo.papers.nasnet.cell import Pool
from paperzoo.training import make_module

PUBLISHED = json.loads((Path(__file__).parent / "official" / "nasnet_a_mobile.json").read_text())["keys"]


def randomise(module: torch.nn.Module) -> None:
    """Weights of a size that keeps signals finite, statistics away from their initial values."""
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            fan_in = value[0].numel() if value.dim() == 4 else 1
            drawn = torch.rand_like(value) + 0.5 if name.endswith("var") else torch.randn_like(value) * fan_in**-0.5
            value.copy_(drawn + (value.dim() == 1 and name.endswith("weight")))


# The authors' mobile network as its PyTorch port computes it: symmetric padding in the first cell, and where sizes are
# even a row and column of zeros before and the first row and column of the result dropped.


class Transcription:
    """Evaluation with a published state dict."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            self.state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-3) * weight + bias

    def pointwise(self, x: Tensor, name: str) -> Tensor:
        return torch.einsum("bchw,fc->bfhw", x, self.state[f"{name}.weight"][:, :, 0, 0])

    def separable(self, x: Tensor, name: str, kernel: int, stride: int, cut: bool) -> Tensor:
        for part, step in ((1, stride), (2, 1)):
            x = F.pad(x.clamp(min=0), (1, 0, 1, 0)) if cut and part == 1 else x.clamp(min=0)
            weight = self.state[f"{name}.separable_{part}.depthwise_conv2d.weight"]
            assert weight.shape[-1] == kernel
            x = F.conv2d(x, weight, stride=step, padding=(kernel - 1) // 2, groups=len(weight))
            x = self.pointwise(x, f"{name}.separable_{part}.pointwise_conv2d")
            x = x[:, :, 1:, 1:] if cut and part == 1 else x
            x = self.norm(x, f"{name}.bn_sep_{part}")
        return x

    def mean(self, x: Tensor, stride: int = 1, cut: bool = False) -> Tensor:
        x = F.pad(x, (1, 0, 1, 0)) if cut else x
        y = F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
        return y[:, :, 1:, 1:] if cut else y

    def largest(self, x: Tensor, cut: bool) -> Tensor:
        x = F.pad(x, (1, 0, 1, 0)) if cut else x
        y = F.max_pool2d(x, 3, 2, 1)
        return y[:, :, 1:, 1:] if cut else y

    def squeeze(self, x: Tensor, name: str) -> Tensor:
        return self.norm(self.pointwise(x.clamp(min=0), f"{name}.conv"), f"{name}.bn")

    def halved(self, x: Tensor, name: str) -> Tensor:
        x = x.clamp(min=0)
        shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        halves = [self.pointwise(F.avg_pool2d(y, 1, 2), f"{name}.path_{i}.conv") for i, y in ((1, x), (2, shifted))]
        return self.norm(torch.cat(halves, 1), f"{name}.final_path_bn")

    def normal(self, left: Tensor, right: Tensor, name: str) -> Tensor:
        def sep(x: Tensor, place: str, kernel: int) -> Tensor:
            return self.separable(x, f"{name}.comb_iter_{place}", kernel, 1, cut=False)

        zero = sep(right, "0_left", 5) + sep(left, "0_right", 3)
        one = sep(left, "1_left", 5) + sep(left, "1_right", 3)
        two = self.mean(right) + left
        three = self.mean(left) + self.mean(left)
        four = sep(right, "4_left", 3) + right
        return torch.cat([left, zero, one, two, three, four], 1)

    def reduction(self, left: Tensor, right: Tensor, name: str, cut: bool = True) -> Tensor:
        def sep(x: Tensor, place: str, kernel: int) -> Tensor:
            return self.separable(x, f"{name}.comb_iter_{place}", kernel, 2, cut)

        zero = sep(right, "0_left", 5) + sep(left, "0_right", 7)
        one = self.largest(right, cut) + sep(left, "1_right", 7)
        two = self.mean(right, 2, cut) + sep(left, "2_right", 5)
        three = self.mean(zero) + one
        four = self.separable(zero, f"{name}.comb_iter_4_left", 3, 1, cut=False) + self.largest(right, cut)
        return torch.cat([one, two, three, four], 1)

    def stage(self, x: Tensor, before: Tensor, numbers: range) -> tuple[Tensor, Tensor]:
        for number in numbers:
            name = f"cell_{number}"
            first = number == numbers[0]
            left = self.halved(before, name) if first else self.squeeze(before, f"{name}.conv_prev_1x1")
            x, before = self.normal(left, self.squeeze(x, f"{name}.conv_1x1"), name), x
        return x, before

    def __call__(self, images: Tensor) -> Tensor:
        conv0 = self.norm(F.conv2d(images, self.state["conv0.conv.weight"], stride=2), "conv0.bn")
        stem0 = self.reduction(conv0, self.squeeze(conv0, "cell_stem_0.conv_1x1"), "cell_stem_0", cut=False)
        left, right = self.halved(conv0, "cell_stem_1"), self.squeeze(stem0, "cell_stem_1.conv_1x1")
        stem1 = self.reduction(left, right, "cell_stem_1")
        x, before = self.stage(stem1, stem0, range(4))
        for index, numbers in ((0, range(6, 10)), (1, range(12, 16))):
            name = f"reduction_cell_{index}"
            left, right = self.squeeze(before, f"{name}.conv_prev_1x1"), self.squeeze(x, f"{name}.conv_1x1")
            x, before = self.stage(self.reduction(left, right, name), x, numbers)
        pooled = x.clamp(min=0).mean((2, 3))
        return pooled @ self.state["last_linear.weight"].T + self.state["last_linear.bias"]


def test_keys_shapes_and_order_are_the_published_ones():
    with torch.device("meta"):
        network = timm.create_model("nasnet_a_mobile")
    assert [(key, list(value.shape)) for key, value in network.state_dict().items()] == list(PUBLISHED.items())


@pytest.mark.parametrize("size", [224, 96, 64])
def test_with_published_weights_it_computes_what_the_authors_network_does(size):
    torch.manual_seed(0)
    donor = timm.create_model("nasnet_a_mobile").double()
    randomise(donor)
    network = timm.create_model("nasnet_a_mobile").double().eval()
    load_official(network, {f"module.{key}": value for key, value in donor.state_dict().items()})
    x = torch.randn(1 if size == 224 else 2, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        wanted = Transcription(donor.state_dict())(x)
        torch.testing.assert_close(network(x), wanted, rtol=1e-9, atol=1e-9 * float(wanted.abs().max()))
        single = network.float()(x.float()).double()
    assert float((single - wanted).abs().max() / wanted.abs().max()) < 1e-5


def equal_with_gradients(ours: torch.nn.Module, theirs: torch.nn.Module, inputs: list[Tensor]) -> None:
    """Outputs, gradients of inputs and of parameters by name, buffers, in training mode."""
    theirs.load_state_dict(ours.state_dict())
    found = []
    for each in (ours, theirs):
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = each(*leaves)
        torch.manual_seed(1)
        (out * torch.randn_like(out)).sum().backward()
        found.append(
            {"out": out, **{str(i): x.grad for i, x in enumerate(leaves)}}
            | {name: p.grad for name, p in each.named_parameters()}
            | dict(each.named_buffers())
        )
    for name, wanted in found[1].items():
        if wanted is not None:
            torch.testing.assert_close(found[0][name], wanted, rtol=1e-9, atol=1e-9, msg=name)


def count_padding(module: torch.nn.Module) -> None:
    """As timm does."""
    for part in module.modules():
        if isinstance(part, Pool):
            part.count_padding = True


def norm(chans: int) -> torch.nn.Module:
    return torch.nn.BatchNorm2d(chans, eps=1e-3, momentum=0.1)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (10, 5)])
@pytest.mark.parametrize("kind", ["first", "normal", "reduction", "stem 0", "stem 1"])
def test_cells_equal_timms(kind, size):
    torch.manual_seed(0)
    high, wide = size
    twice = [2 * high - high % 2, 2 * wide - wide % 2]  # what becomes (high, wide) when it is halved
    x, same, larger = (torch.randn(3, c, *s) for c, s in ((12, size), (10, size), (10, twice)))
    if kind == "first":
        ours, inputs = Cell(NORMAL, 12, 10, 6, 1, "reduce", norm), [x, larger]
        theirs = timms.FirstCell(10, 3, 12, 6, pad_type="same")
    elif kind == "normal":
        ours, inputs = Cell(NORMAL, 12, 10, 6, 1, "project", norm), [x, same]
        theirs = timms.NormalCell(10, 6, 12, 6, pad_type="same")
    elif kind == "reduction":
        ours, inputs = Cell(REDUCTION, 12, 10, 6, 2, "project", norm), [x, same]
        theirs = timms.ReductionCell0(10, 6, 12, 6, pad_type="same")
    elif kind == "stem 0":
        cell, inputs = Cell(REDUCTION, 12, 12, 6, 2, "raw", norm), [x]
        ours, theirs = Twice(cell), timms.CellStem0(12, 6, pad_type="same")
    else:
        cell, inputs = Cell(REDUCTION, 12, 10, 6, 2, "reduce", norm), [larger, x]
        ours, theirs = Swapped(cell), timms.CellStem1(10, 6, pad_type="same")
    count_padding(ours)
    ours, theirs = ours.double(), theirs.double()
    randomise(ours)
    if kind in ("stem 0", "stem 1"):
        theirs = Wrapped(theirs)
    equal_with_gradients(ours, theirs, [value.double() for value in inputs])


class Wrapped(torch.nn.Module):
    def __init__(self, cell: torch.nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.cell(*inputs)


class Twice(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x, x)


class Swapped(Wrapped):
    def forward(self, before: Tensor, x: Tensor) -> Tensor:
        return self.cell(x, before)


def test_the_large_network_equals_timms_with_its_weights():
    """The same form at an eighth of the width: 6 @ 192."""
    torch.manual_seed(0)
    theirs = timms.NASNetALarge(stem_size=12, num_features=192, num_classes=5).double()
    ours = NASNetA(6, 8, 12, imagenet=True, skip_reduction=True, num_classes=5, norm_layer=norm).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    count_padding(ours)
    randomise(ours)
    equal_with_gradients(ours, theirs, [torch.randn(2, 3, 75, 70, dtype=torch.float64)])


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(6, 6), (7, 5), (4, 3), (2, 2), (1, 1), (1, 4)])
def test_pooling_equals_a_loop(kind, stride, size):
    """TensorFlow's SAME: outputs ceil(n / s), total padding (outputs - 1) s + 3 - n, the smaller half first."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    got = Pool(kind, stride)(x)
    starts = []
    for n in size:
        outputs = -(-n // stride)
        padding = max(0, (outputs - 1) * stride + 3 - n)
        starts.append([i * stride - padding // 2 for i in range(outputs)])
    assert got.shape[2:] == (len(starts[0]), len(starts[1]))
    for i, row in enumerate(starts[0]):
        for j, column in enumerate(starts[1]):
            seen = x[:, :, max(0, row) : row + 3, max(0, column) : column + 3].flatten(2)
            wanted = seen.mean(2) if kind == "avg" else seen.amax(2)
            torch.testing.assert_close(got[:, :, i, j], wanted)


def test_cifars_first_cell_equals_the_code():
    """Its one input is state 1 as it is: pooling and sum bring it to F by a 1x1 convolution each, the output too."""
    torch.manual_seed(0)
    cell = Cell(NORMAL, 9, 9, 4, before="raw").double().eval()
    randomise(cell)
    x = torch.randn(2, 9, 6, 5, dtype=torch.float64)

    def one(module: torch.nn.Module, y: Tensor) -> Tensor:
        conv, bn = (module.conv, module.bn) if hasattr(module, "conv") else (module[-2], module[-1])
        return bn(torch.einsum("bchw,fc->bfhw", y, conv.weight[:, :, 0, 0]))

    def mean(y: Tensor) -> Tensor:
        return F.avg_pool2d(y, 3, 1, 1, count_include_pad=False)

    cur = one(cell.conv_1x1, x.clamp(min=0))
    states = [
        one(cell.joined_1x1, x),
        cell.comb_iter_0_left(cur) + cell.comb_iter_0_right(x),
        cell.comb_iter_1_left(x) + cell.comb_iter_1_right(x),
        mean(cur) + one(cell.comb_iter_2_right, x.clamp(min=0)),
        one(cell.comb_iter_3_left, mean(x)) + one(cell.comb_iter_3_right, mean(x)),
        cell.comb_iter_4_left(cur) + cur,
    ]
    torch.testing.assert_close(cell(x, x), torch.cat(states, 1))
    assert cell.comb_iter_0_right.separable_1.depthwise_conv2d.weight.shape == (9, 1, 3, 3)
    assert cell.comb_iter_0_right.separable_1.pointwise_conv2d.weight.shape == (4, 9, 1, 1)


# the networks


@pytest.mark.parametrize(
    ("name", "size", "parameters", "macs"),
    # docs/facts.md; the PyTorch port of the mobile network is at 0.5682 G, the authors' README says 0.564.
    [("nasnet_a_mobile", 224, 5_289_978, 0.5682e9), ("nasnet_a_large", 331, 88_753_150, 23.783e9)],
)
def test_counts_are_the_papers(name, size, parameters, macs):
    with torch.device("meta"):
        network = timm.create_model(name)
    counted = count(network, (3, size, size))
    assert counted.parameters == parameters
    assert counted.macs == pytest.approx(macs, rel=0.01)


def test_the_mobile_networks_macs_are_those_of_the_port_less_the_pixels_that_it_drops():
    """By hand: in the cells that it pads by hand the port computes (n + 1)^2 places of a convolution instead of n^2."""
    with torch.device("meta"):
        macs = count(timm.create_model("nasnet_a_mobile"), (3, 224, 224)).macs
    extra = 0
    for half, filters in ((28, 22), (14, 88), (7, 176)):  # stem cell 1 and the reduction cells
        dropped = (half + 1) ** 2 - half**2
        extra += sum(dropped * (filters * kernel**2 + filters**2) for kernel in (5, 7, 7, 5, 3))
    assert macs + extra == pytest.approx(0.5682e9, rel=1e-4)


def test_the_small_network_costs_what_resnet_small_does():
    small, resnet = (count(timm.create_model(f"{n}_small", in_chans=1), (1, 28, 28)) for n in ("nasnet", "resnet"))
    assert small.macs == pytest.approx(resnet.macs, rel=0.11)


def test_widths_of_the_stages():
    """6 @ 768: 24 F channels at the end, 6 F 2^i after stage i, stem of 3 F."""
    with torch.device("meta"):
        network = timm.create_model("nasnet_a_6_768")
    assert network.num_features == 768
    assert [info["num_chs"] for info in network.feature_info] == [96, 192, 384, 768]
    assert len([name for name in network.cell_names if not name.startswith("red")]) == 18
    with torch.device("meta"):
        wide = timm.create_model("nasnet_a_7_2304")
    assert (wide.num_features, len(wide.cell_names)) == (2304, 23)


@pytest.mark.parametrize(
    ("name", "reductions"), [("nasnet_small", [1, 1, 2, 4]), ("nasnet_a_mobile", [2, 4, 8, 16, 32])]
)
def test_features_are_the_maps_at_the_ends_of_the_stages(name, reductions):
    torch.manual_seed(0)
    network = timm.create_model(name, in_chans=1).eval()
    maps = timm.create_model(name, in_chans=1, features_only=True).eval()
    maps.body.load_state_dict(network.state_dict(), strict=False)
    x = torch.randn(1, 1, 64, 64)
    taken: dict[str, Tensor] = {}
    for part in network.cell_names:
        getattr(network, part).register_forward_hook(lambda m, i, out, part=part: taken.update({part: out}))
    last = network.forward_features(x)
    ends = ["cell_0", "cell_6"] if name == "nasnet_small" else ["cell_stem_0", "cell_3", "cell_9"]
    wanted = [network.conv0(x), *(F.relu(taken[end]) for end in ends), last]
    for got, right, chans in zip(maps(x), wanted, maps.feature_info.channels(), strict=True):
        torch.testing.assert_close(got, right)
        assert got.shape[1] == chans
    assert maps.feature_info.reduction() == reductions


def test_heads():
    torch.manual_seed(0)
    network = timm.create_model("nasnet_small", in_chans=1).eval()
    x = torch.randn(2, 1, 28, 28)
    last = network.forward_features(x)
    torch.testing.assert_close(network.forward_head(last, pre_logits=True), last.mean((2, 3)))
    linear = network.last_linear
    assert network.get_classifier() is linear
    torch.testing.assert_close(network(x), last.mean((2, 3)) @ linear.weight.T + linear.bias)
    network.double().reset_classifier(0)
    torch.testing.assert_close(network(x.double()), last.mean((2, 3)).double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("chans", "high", "wide"), [(1, 28, 28), (3, 32, 32), (1, 17, 31), (2, 5, 9), (3, 1, 1)])
def test_sizes_channels_and_batches(chans, high, wide):
    network = timm.create_model("nasnet_small", filters=3, in_chans=chans, num_classes=4).eval()
    x = torch.randn(2, chans, high, wide)
    alone = torch.cat([network(x[:1]), network(x[1:])])
    torch.testing.assert_close(alone, network(x), rtol=1e-4, atol=1e-5)
    assert network.forward_features(x).shape == (2, 72, -(-high // 4), -(-wide // 4))


def test_a_batch_of_one_trains_where_maps_have_more_than_one_number():
    network = timm.create_model("nasnet_small", filters=2)
    network(torch.randn(1, 3, 5, 5)).sum().backward()
    with pytest.raises(UserError, match="batch of 1") as caught:
        network(torch.randn(1, 3, 4, 4))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="batch of 1"):  # ImageNet's form without padding in the stem: 63 -> 31 -> 1
        timm.create_model("nasnet_a_mobile")(torch.randn(1, 3, 34, 34))


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("nasnet_small", {"cells": 0}, "model.cells=0"),
        ("nasnet_small", {"filters": 1}, "model.filters=1"),
        ("nasnet_small", {"keep": 0.0}, "model.keep=0"),
        ("nasnet_small", {"keep": 1.5}, "model.keep=1.5"),
        ("nasnet_a_mobile", {"filters": 6}, "8 filters"),
        ("nasnet_small", {"in_chans": 0}, "0 image channels"),
    ],
)
def test_what_cannot_be_is_one_line(name, options, says):
    with pytest.raises(UserError, match=says) as caught:
        timm.create_model(name, **options)
    assert "\n" not in str(caught.value)


def test_an_image_without_room_for_the_stem_is_one_line():
    with pytest.raises(UserError, match=r"2x9.*at least 3x3"):
        timm.create_model("nasnet_a_mobile").eval()(torch.zeros(1, 3, 2, 9))


def test_checkpointing_changes_no_gradient():
    torch.manual_seed(0)
    network = timm.create_model("nasnet_small", filters=3, in_chans=1).double()
    twin = copy.deepcopy(network)
    twin.set_grad_checkpointing()
    x = torch.randn(4, 1, 9, 9, dtype=torch.float64)
    for each in (network, twin):
        each(x).square().sum().backward()
    for one, two in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


@pytest.mark.parametrize("word", ["batch", "sync_batch", "layer", "group", "instance", "switchable"])
def test_every_norm_composes(word):
    torch.manual_seed(0)
    config = compose("train", ["model=nasnet", "model.filters=4", f"norm={word}"])
    data = shapes.images(10, 1)
    module = make_module(config, data)
    module.loss(module(torch.randn(3, 1, 28, 28)), torch.arange(3)).backward()
    assert [name for name, p in module.named_parameters() if p.grad is None] == []


def test_memory_format_changes_nothing_but_speed():
    torch.manual_seed(0)
    network = timm.create_model("nasnet_small", in_chans=1).double()
    twin = copy.deepcopy(network).to(memory_format=torch.channels_last)
    x = torch.randn(3, 1, 28, 28, dtype=torch.float64)
    for each, image in ((network, x), (twin, x.contiguous(memory_format=torch.channels_last))):
        each(image).square().sum().backward()
    for one, two in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)
