"""SCNet against the paper's equations, written out with loops and torch's plain functions in float64."""

import json
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from naive import equal_with_gradients, naive_conv, naive_norm, randomise
from torch import Tensor

from paperzoo.accounting import count
from paperzoo.errors import UserError
from paperzoo.papers.scnet import SCBottleneck, SCConv

OFFICIAL = Path(__file__).parent / "official"
COUNTS = {  # docs/facts.md
    "scnet50": (25_564_584, 3.925e9),
    "scnet101": (44_565_416, 7.169e9),
    "scnet50_v1d": (25_583_816, 4.685e9),
    "scnet101_v1d": (44_689_192, 9.044e9),
}


def naive_pool(x: Tensor, r: int, kind: str) -> Tensor:
    """Mean or maximum of squares of r x r without overlap; a map smaller than r is one square."""
    high, wide = min(r, x.shape[2]), min(r, x.shape[3])
    rows = [
        torch.stack(
            [
                getattr(x[:, :, i : i + high, j : j + wide].flatten(2), "mean" if kind == "avg" else "amax")(2)
                for j in range(0, x.shape[3] - wide + 1, wide)
            ],
            dim=2,
        )
        for i in range(0, x.shape[2] - high + 1, high)
    ]
    return torch.stack(rows, dim=2)


def naive_up(small: Tensor, height: int, width: int) -> Tensor:
    """Nearest neighbour, pixel by pixel: row i comes from row floor(i * h / H)."""
    rows = [i * small.shape[2] // height for i in range(height)]
    columns = [j * small.shape[3] // width for j in range(width)]
    return torch.stack([torch.stack([small[:, :, i, j] for j in columns], dim=2) for i in rows], dim=2)


def naive_scconv(x, state, prefix, *, stride, dilation, r, training, identity=True, pooling="avg"):
    k = {n: state[f"{prefix}{n}.weight"] for n in ("k2.1", "k3.0", "k4.0")}
    t = naive_norm(naive_conv(naive_pool(x, r, pooling), k["k2.1"], 1, dilation), state, f"{prefix}k2.2", training)
    gate = torch.sigmoid(naive_up(t, *x.shape[2:]) + (x if identity else 0))
    y = naive_norm(naive_conv(x, k["k3.0"], 1, dilation), state, f"{prefix}k3.1", training) * gate
    return naive_norm(naive_conv(y, k["k4.0"], stride, dilation), state, f"{prefix}k4.1", training)


def naive_bottleneck(x, state, *, stride, r, training, pool_stride=False):
    def half(name: str) -> Tensor:
        return F.relu(naive_norm(naive_conv(x, state[f"conv1_{name}.weight"]), state, f"bn1_{name}", training))

    inner = 1 if pool_stride else stride
    a = F.relu(naive_norm(naive_conv(half("a"), state["k1.0.weight"], inner), state, "k1.1", training))
    b = F.relu(naive_scconv(half("b"), state, "scconv.", stride=inner, dilation=1, r=r, training=training))
    if pool_stride:  # the mean of nine, zeros of the border among them
        nine = torch.full((1, 1, 3, 3), 1 / 9, dtype=x.dtype)
        a, b = (naive_conv(y, nine.repeat(y.shape[1], 1, 1, 1), stride) for y in (a, b))
    y = naive_norm(naive_conv(torch.cat([a, b], 1), state["conv3.weight"]), state, "bn3", training)
    shortcut = x
    if "downsample.0.weight" in state:
        shortcut = naive_norm(naive_conv(x, state["downsample.0.weight"], stride), state, "downsample.1", training)
    return F.relu(y + shortcut)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("size", "stride", "dilation", "groups", "r"),
    [
        ((8, 8), 1, 1, 1, 4),
        ((9, 13), 1, 1, 1, 4),  # r divides neither: nearest neighbour has uneven squares
        ((12, 7), 2, 1, 1, 4),
        ((10, 11), 1, 2, 1, 4),
        ((8, 8), 1, 1, 3, 2),
        ((6, 5), 1, 1, 1, 1),
        ((3, 7), 1, 1, 1, 4),  # lower than r
        ((2, 2), 2, 1, 1, 4),  # smaller than r on both sides
    ],
)
def test_scconv_equals_the_equations(size, stride, dilation, groups, r, training):
    torch.manual_seed(0)
    module = SCConv(6, 6, stride, dilation, dilation, groups, r, torch.nn.BatchNorm2d).double()
    randomise(module)
    module.train(training)
    x = torch.randn(3, 6, *size, dtype=torch.float64)
    equal_with_gradients(
        module, lambda x, s: naive_scconv(x, s, "", stride=stride, dilation=dilation, r=r, training=training), x
    )


@pytest.mark.parametrize(("identity", "pooling"), [(False, "avg"), (True, "max"), (False, "max")])
def test_ablations_equal_the_equations(identity, pooling):
    torch.manual_seed(0)
    module = SCConv(4, 4, identity=identity, pooling=pooling).double()
    randomise(module)
    options = {"stride": 1, "dilation": 1, "r": 4, "training": True, "identity": identity, "pooling": pooling}
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    equal_with_gradients(module, lambda x, s: naive_scconv(x, s, "", **options), x)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("inplanes", "stride", "pool_stride"), [(32, 1, False), (12, 1, False), (12, 2, False), (12, 2, True)]
)
def test_bottleneck_equals_the_equations(inplanes, stride, pool_stride, layout):
    torch.manual_seed(0)
    downsample = None
    if inplanes != 32 or stride != 1:
        conv = torch.nn.Conv2d(inplanes, 32, 1, stride, bias=False)
        downsample = torch.nn.Sequential(conv, torch.nn.BatchNorm2d(32))
    module = SCBottleneck(inplanes, 8, stride, downsample, pool_stride=pool_stride).double().to(memory_format=layout)
    randomise(module)
    x = torch.randn(2, inplanes, 9, 11, dtype=torch.float64).contiguous(memory_format=layout)
    options = {"stride": stride, "r": 4, "training": True, "pool_stride": pool_stride}
    equal_with_gradients(module, lambda x, s: naive_bottleneck(x, s, **options), x)


def test_input_is_left_as_it_was():
    x = torch.randn(2, 4, 8, 8)
    before = x.clone()
    SCConv(4, 4)(x)
    SCConv(4, 4, pooling_r=1, identity=False)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_papers(name):
    with torch.device("meta"):
        network = timm.create_model(name)
    counted = count(network, (3, 224, 224))
    parameters, macs = COUNTS[name]
    assert counted.parameters == parameters
    assert counted.macs == pytest.approx(macs, rel=0.001)  # to the digits that the source gives


@pytest.mark.parametrize("name", ["scnet50", "scnet50_v1d"])
def test_keys_shapes_and_order_are_the_published_ones(name):
    with torch.device("meta"):
        network = timm.create_model(name)
    published = json.loads((OFFICIAL / f"{name}.json").read_text())["keys"]
    assert [(key, list(value.shape)) for key, value in network.state_dict().items()] == list(published.items())


def test_v1d_differs_from_the_plain_form_in_stem_shortcut_and_strides():
    torch.manual_seed(0)
    network = timm.create_model("scnet50_v1d")
    strided = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m.stride != (1, 1)]
    assert strided == [network.conv1[0]]
    pools = [n for n, m in network.named_modules() if isinstance(m, torch.nn.AvgPool2d) and n.endswith(".pool")]
    assert pools == ["layer2.0.pool", "layer3.0.pool", "layer4.0.pool"]


def test_scnet50_takes_small_images_and_features():
    network = timm.create_model("scnet50", in_chans=1, num_classes=7).eval()
    assert network(torch.zeros(1, 1, 28, 28)).shape == (1, 7)
    features = timm.create_model("scnet50", features_only=True, output_stride=16).eval()
    maps = features(torch.zeros(1, 3, 64, 64))
    assert [m.shape[-1] for m in maps] == [32, 16, 8, 4, 4]


def test_options_reach_every_block_of_the_large_network():
    with torch.device("meta"):
        network = timm.create_model("scnet50", pooling_rate=2, pooling="max", identity=False)
    convs = [m for m in network.modules() if isinstance(m, SCConv)]
    assert len(convs) == 16
    assert {(m.k2[0].rate, m.k2[0].kind, m.identity) for m in convs} == {(2, "max", False)}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SCConv(4, 6), "planes must equal inplanes"),
        (lambda: SCConv(4, 4, padding=1, dilation=2), "padding must equal dilation"),
        (lambda: SCConv(4, 4, pooling_r=0), "at least 1"),
        (lambda: SCConv(4, 4, groups=3), "planes=4, groups=3"),
        (lambda: SCConv(4, 4, pooling="min"), "avg, max"),
        (lambda: SCBottleneck(4, 1), "at least 2"),
        (lambda: SCBottleneck(4, 4, aa_layer=torch.nn.AvgPool2d), "no aa_layer"),
        (lambda: SCConv(4, 4)(torch.zeros(1, 4, 4, 4)), "batch of at least 2"),
    ],
)
def test_what_cannot_be_is_one_line(make, says):
    with pytest.raises(UserError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_batch_of_one_trains_where_the_pooled_map_has_more_than_one_number():
    module = SCConv(4, 4)
    module(torch.randn(1, 4, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in module.parameters())
