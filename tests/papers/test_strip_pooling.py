"""Strip pooling against the equations, pixel by pixel, and against the official layers' order, in float64."""

import copy
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
from plain import conv, drawn, equal_with_gradients, norm, randomise
from timm.models.resnet import Bottleneck
from torch import nn

from paperzoo.errors import UserError
from paperzoo.norms import SyncBatchNorm
from paperzoo.papers.strip_pooling import MixedPoolingModule, SPBottleneck, StripPoolingModule, load_official
from paperzoo.papers.strip_pooling.strips import grid_means

UP = {"mode": "bilinear", "align_corners": True}


def strip(x, weight, axis):
    """The mean over ``axis`` at each place of the other one, then a kernel of three along it: (B, C', L)."""
    line = x.sum(axis) / x.shape[axis]  # (B, C, L)
    length, kernel = line.shape[2], weight.flatten(2)
    total = []
    for i in range(length):
        near = [(k, i + k - 1) for k in range(3) if 0 <= i + k - 1 < length]
        total.append(sum(line[:, :, j] @ kernel[:, :, k].T for k, j in near))
    return torch.stack(total, 2)


def naive_spm(x, s, training):
    rows = norm(strip(x, s["conv1.weight"], 3)[..., None], s, "bn1", training)  # (B, C', H, 1)
    columns = norm(strip(x, s["conv2.weight"], 2)[:, :, None], s, "bn2", training)  # (B, C', 1, W)
    gates = []
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            y = F.relu(rows[:, :, i, 0] + columns[:, :, 0, j])
            gates.append(torch.sigmoid(y @ s["conv3.weight"].flatten(1).T + s["conv3.bias"]))
    return torch.stack(gates, 2).unflatten(2, x.shape[2:])


def naive_grid(x, side):
    """The mean of each cell; cells overlap by up to a pixel where the side does not divide the map."""
    cells = []
    for i in range(side):
        for j in range(side):
            rows = [h for h in range(x.shape[2]) if (h + 1) * side > i * x.shape[2] and h * side < (i + 1) * x.shape[2]]
            cols = [w for w in range(x.shape[3]) if (w + 1) * side > j * x.shape[3] and w * side < (j + 1) * x.shape[3]]
            cells.append(sum(x[:, :, h, w] for h in rows for w in cols) / (len(rows) * len(cols)))
    return torch.stack(cells, 2).unflatten(2, (side, side))


def naive_bilinear(x, height, width):
    """Corner pixels on corner pixels, linear between."""

    def places(n, size):
        for i in range(size):
            at = i * (n - 1) / (size - 1) if size > 1 else 0.0
            low = min(int(at), n - 1)
            yield low, min(low + 1, n - 1), at - low

    pixels = [
        (1 - a) * ((1 - b) * x[:, :, t, le] + b * x[:, :, t, r]) + a * ((1 - b) * x[:, :, d, le] + b * x[:, :, d, r])
        for t, d, a in places(x.shape[2], height)
        for le, r, b in places(x.shape[3], width)
    ]
    return torch.stack(pixels, 2).unflatten(2, (height, width))


def naive_mpm(x, s, training, pools, short=True, long=True):
    size, parts = x.shape[2:], []

    def layer(y, key):
        return norm(conv(y, s, f"{key}.0"), s, f"{key}.1", training)

    if short:
        y = F.relu(layer(x, "conv1_1"))
        grids = [layer(naive_grid(y, side), key) for side, key in zip(pools, ("conv2_1", "conv2_2"), strict=True)]
        total = layer(y, "conv2_0") + sum(naive_bilinear(grid, *size) for grid in grids)
        parts.append(F.relu(layer(F.relu(total), "conv2_5")))
    if long:
        y = F.relu(layer(x, "conv1_2"))
        columns = norm(strip(y, s["conv2_3.0.weight"], 2)[:, :, None], s, "conv2_3.1", training)
        rows = norm(strip(y, s["conv2_4.0.weight"], 3)[..., None], s, "conv2_4.1", training)
        parts.append(F.relu(layer(F.relu(columns + rows), "conv2_6")))
    return F.relu(x + layer(torch.cat(parts, 1), "conv3"))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("size", "outplanes"), [((5, 7), 4), ((1, 6), 5), ((6, 1), 3)])
def test_spm_equals_the_equations(size, outplanes, training):
    module = StripPoolingModule(4, outplanes, nn.BatchNorm2d).double().train(training)
    randomise(module)
    x = torch.randn(3, 4, *size, dtype=torch.float64)
    equal_with_gradients(module, lambda x, s: naive_spm(x, s, training), x)


@pytest.mark.parametrize(
    ("size", "pools", "options"),
    [
        ((7, 9), (5, 3), {}),
        ((4, 3), (5, 6), {}),  # smaller than the grids
        ((1, 5), (2, 3), {}),
        ((6, 6), (3, 2), {"short_range": False}),
        ((6, 5), (3, 2), {"long_range": False}),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_mpm_equals_the_equations(size, pools, options, training):
    module = MixedPoolingModule(8, pools, nn.BatchNorm2d, UP, **options).double().train(training)
    randomise(module)
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    kind = {"short": options.get("short_range", True), "long": options.get("long_range", True)}
    equal_with_gradients(module, lambda x, s: naive_mpm(x, s, training, pools, **kind), x)


def test_grids_are_torchs():
    x = torch.randn(2, 3, 13, 17, dtype=torch.float64)
    for side in (1, 4, 13, 20):
        torch.testing.assert_close(grid_means(x, side), F.adaptive_avg_pool2d(x, side))


class OfficialSPM(nn.Module):
    """The layers of the published code in their order (docs/facts.md)."""

    def __init__(self, inplanes, outplanes):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, outplanes, (3, 1), padding=(1, 0), bias=False)
        self.bn1 = nn.BatchNorm2d(outplanes)
        self.conv2 = nn.Conv2d(inplanes, outplanes, (1, 3), padding=(0, 1), bias=False)
        self.bn2 = nn.BatchNorm2d(outplanes)
        self.conv3 = nn.Conv2d(outplanes, outplanes, 1, bias=True)

    def forward(self, x):
        one = self.bn1(self.conv1(F.adaptive_avg_pool2d(x, (x.shape[2], 1)))).expand(-1, -1, *x.shape[2:])
        two = self.bn2(self.conv2(F.adaptive_avg_pool2d(x, (1, x.shape[3])))).expand(-1, -1, *x.shape[2:])
        return self.conv3(F.relu(one + two)).sigmoid()


class OfficialMPM(nn.Module):
    """Likewise; every branch is brought to the map's size by interpolation."""

    def __init__(self, chans, pools):
        super().__init__()
        quarter = chans // 4
        kernels = {"1_1": 1, "1_2": 1, "2_0": 3, "2_1": 3, "2_2": 3, "2_3": (1, 3), "2_4": (3, 1), "2_5": 3, "2_6": 3}
        for name, kernel in kernels.items():
            pad = tuple(k // 2 for k in (kernel if isinstance(kernel, tuple) else (kernel, kernel)))
            conv = nn.Conv2d(chans if name[0] == "1" else quarter, quarter, kernel, padding=pad, bias=False)
            setattr(self, f"conv{name}", nn.Sequential(conv, nn.BatchNorm2d(quarter)))
        self.conv3 = nn.Sequential(nn.Conv2d(2 * quarter, chans, 1, bias=False), nn.BatchNorm2d(chans))
        self.pools = pools

    def forward(self, x):
        size = x.shape[2:]
        one, two = F.relu(self.conv1_1(x)), F.relu(self.conv1_2(x))
        a = F.interpolate(self.conv2_1(F.adaptive_avg_pool2d(one, self.pools[0])), size, **UP)
        b = F.interpolate(self.conv2_2(F.adaptive_avg_pool2d(one, self.pools[1])), size, **UP)
        c = F.interpolate(self.conv2_3(F.adaptive_avg_pool2d(two, (1, size[1]))), size, **UP)
        d = F.interpolate(self.conv2_4(F.adaptive_avg_pool2d(two, (size[0], 1))), size, **UP)
        one = F.relu(self.conv2_5(F.relu(self.conv2_0(one) + a + b)))
        two = F.relu(self.conv2_6(F.relu(c + d)))
        return F.relu(x + self.conv3(torch.cat([one, two], 1)))


@pytest.mark.parametrize(
    ("ours", "theirs", "x"),
    [
        (StripPoolingModule(6, 5), OfficialSPM(6, 5), torch.randn(2, 6, 9, 14, dtype=torch.float64)),
        (MixedPoolingModule(16), OfficialMPM(16, (20, 12)), torch.randn(2, 16, 25, 18, dtype=torch.float64)),
    ],
    ids=["spm", "mpm"],
)
def test_official_state_dicts_load_and_compute_the_same(ours, theirs, x):
    state = drawn({key: list(value.shape) for key, value in theirs.state_dict().items()})
    assert list(ours.state_dict()) == list(state)  # keys, and their order
    load_official(ours.double(), {"state_dict": {f"module.{key}": value for key, value in state.items()}})
    theirs.double().load_state_dict(state)
    for training in (False, True):
        torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x), rtol=1e-9, atol=1e-9)


def test_mpm_has_the_published_number_of_parameters():
    with torch.device("meta"):
        module = MixedPoolingModule(1024, (20, 12), nn.BatchNorm2d, UP)
    assert sum(p.numel() for p in module.parameters()) == 4_397_568  # docs/facts.md


@pytest.mark.parametrize(
    ("name", "where", "blocks"),
    [
        ("strip_resnet50", "both", {"layer1.2", "layer2.3", "layer3.5", "layer4.0", "layer4.1", "layer4.2"}),
        ("strip_pooling_small", "both", {"layer1.1", "layer2.1", "layer3.0", "layer3.1"}),
        ("strip_pooling_small", "last", {"layer1.1", "layer2.1", "layer3.1"}),
        ("strip_pooling_small", "stage", {"layer3.0", "layer3.1"}),
        ("strip_pooling_small", "none", set()),
    ],
)
def test_modules_stand_where_the_paper_has_them(name, where, blocks):
    with torch.device("meta"):
        network = timm.create_model(name, spm=where, **({"depth": 20} if name.endswith("small") else {}))
    assert {name for name, m in network.named_modules() if getattr(m, "spm", None) is not None} == blocks


def test_a_gate_stands_after_the_3x3_convolution():
    torch.manual_seed(0)
    block = SPBottleneck(16, 4).double().eval()
    twin = Bottleneck(16, 4).double().eval()
    twin.load_state_dict(block.state_dict())
    x = torch.randn(2, 16, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(block(x), twin(x))
    block.spm = StripPoolingModule(4, 4).double().eval()
    randomise(block.spm)
    y = F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))))
    torch.testing.assert_close(block(x), F.relu(x + block.bn3(block.conv3(y * block.spm(y)))))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_dilated_trunk_has_the_strided_ones_values_between_others(stride):
    torch.manual_seed(0)
    options = {"depth": 20, "width": 4, "spm": "none", "in_chans": 1}
    strided = timm.create_model("strip_pooling_small", **options).double().eval()
    dilated = timm.create_model("strip_pooling_small", output_stride=stride, **options).double().eval()
    dilated.load_state_dict(strided.state_dict())
    x = torch.randn(1, 1, 24, 20, dtype=torch.float64)
    step = 4 // stride
    torch.testing.assert_close(dilated.forward_features(x)[:, :, ::step, ::step], strided.forward_features(x))
    maps = timm.create_model("strip_pooling_small", output_stride=stride, features_only=True, **options)
    sizes = [-(-24 // reduction) for reduction in maps.feature_info.reduction()]
    assert [m.shape[2] for m in maps.double()(x)] == sizes


def test_the_parser_is_trunk_modules_and_scorer():
    torch.manual_seed(0)
    network = timm.create_model("spnet_small", width=8, in_chans=1, num_classes=5).double().eval()
    x = torch.randn(2, 1, 21, 33, dtype=torch.float64)
    before, last = network.backbone(x)[-2:]
    head, second = network.head, network.aux_head
    y = network.mpms[1](network.mpms[0](F.relu(network.reduce[1](network.reduce[0](last)))))
    expected = [
        F.interpolate(part.score(F.relu(part.bn(part.conv(m)))), (21, 33), **UP)
        for part, m in ((head, y), (second, before))
    ]
    for got, wanted in zip(network.forward_both(x), expected, strict=True):
        torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(network(x), expected[0])
    program = torch.export.export(network, (x,))
    torch.testing.assert_close(program.module()(x), expected[0])


def test_the_parsers_heads_and_features():
    network = timm.create_model("spnet_small", width=8, in_chans=1)
    assert network.get_classifier() is network.head.score
    network.reset_classifier(3)
    both = network.forward_both(torch.randn(2, 1, 16, 16))
    assert [tuple(part.shape) for part in both] == [(2, 3, 16, 16)] * 2
    sum(part.square().sum() for part in both).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    network.reset_classifier(0)
    assert network(torch.randn(2, 1, 16, 16)).shape == (2, network.head_hidden_size, 16, 16)
    assert network.forward_features(torch.randn(1, 1, 16, 16)).shape == (1, network.num_features, 8, 8)
    maps = timm.create_model("spnet_small", width=8, in_chans=1, features_only=True).eval()
    maps.load_state_dict(network.backbone.state_dict())
    x = torch.randn(1, 1, 16, 16)
    for got, wanted in zip(maps(x), network.eval().backbone(x), strict=True):
        torch.testing.assert_close(got, wanted)
    with torch.device("meta"):
        big = timm.create_model("spnet50", features_only=True)
    assert big.feature_info.reduction()[-2:] == [8, 8]


@pytest.mark.parametrize(("chans", "height", "width"), [(1, 28, 28), (3, 17, 31), (1, 5, 2), (3, 1, 1)])
def test_images_of_any_size(chans, height, width):
    torch.manual_seed(0)
    network = timm.create_model("spnet_small", width=8, in_chans=chans, num_classes=4).eval()
    x = torch.randn(2, chans, height, width)
    assert network(x).shape == (2, 4, height, width)
    torch.testing.assert_close(torch.cat([network(x[:1]), network(x[1:])]), network(x), rtol=1e-4, atol=1e-4)


def test_a_batch_of_one_trains_or_says_why_not():
    network = timm.create_model("spnet_small", width=8, in_chans=1)
    network(torch.randn(1, 1, 9, 12)).sum().backward()
    for name in ("spnet_small", "strip_pooling_small"):
        with pytest.raises(UserError, match=r"StripPoolingModule: of a map of 1x9 and a batch of 1, .* at least 2"):
            timm.create_model(name, width=8, in_chans=1)(torch.randn(1, 1, 1, 9))
    mixed = partial(MixedPoolingModule, 8, (2, 3))
    with pytest.raises(UserError, match=r"MixedPoolingModule: of a map of 1x5 and a batch of 1, .* at least 2"):
        mixed()(torch.randn(1, 8, 1, 5))
    with pytest.raises(UserError, match="grids of more than one cell"):
        MixedPoolingModule(8, (1, 3))(torch.randn(1, 8, 6, 5))
    assert mixed(long_range=False)(torch.randn(1, 8, 1, 5)).shape == (1, 8, 1, 5)  # has no strips
    for module in (mixed(norm_layer=SyncBatchNorm), StripPoolingModule(8, 8, SyncBatchNorm)):  # other ranks add some
        assert module(torch.randn(1, 8, 1, 5)).isfinite().all()
    frozen = mixed()
    for part in frozen.modules():
        part.train(not isinstance(part, nn.BatchNorm2d))
    assert frozen(torch.randn(1, 8, 1, 5)).isfinite().all()
    free = timm.create_model("spnet_small", width=8, in_chans=1, norm_layer=lambda c, **_: nn.GroupNorm(1, c))
    free(torch.randn(1, 1, 1, 9)).sum().backward()


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: StripPoolingModule(0, 4), "inplanes=0"),
        (lambda: MixedPoolingModule(3), "in_channels=3"),
        (lambda: MixedPoolingModule(8, (0, 3)), r"pool_size=\(0, 3\)"),
        (lambda: MixedPoolingModule(8, short_range=False, long_range=False), "one of them must be true"),
        (lambda: timm.create_model("strip_pooling_small", spm="all"), "model.spm=all: must be one of both"),
        (lambda: timm.create_model("strip_pooling_small", output_stride=3), "output_stride=3"),
        (lambda: timm.create_model("spnet_small", mpms=-1), "model.mpms=-1"),
    ],
)
def test_what_cannot_be_is_one_line(make, line):
    with pytest.raises(UserError, match=line) as error:
        make()
    assert "\n" not in str(error.value)


def test_input_is_left_as_it_was():
    for module in (StripPoolingModule(4, 4), MixedPoolingModule(4, (2, 3))):
        x = torch.randn(2, 4, 6, 5)
        before = copy.deepcopy(x)
        module(x)
        assert torch.equal(x, before)
