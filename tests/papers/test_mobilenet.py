"""MobileNet V1 and V2: blocks against loops in float64, networks against torchvision's and timm's, counts."""

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from naive import equal_by_order, equal_with_gradients, naive_conv, naive_norm, randomise
from torch import Tensor, nn

from paperzoo.accounting import count
from paperzoo.errors import UserError
from paperzoo.papers.mobilenet_v1 import MobileNetV1
from paperzoo.papers.mobilenet_v2 import MobileNetV2

COUNTS = {  # docs/facts.md: counted, and as published (MACs in millions, parameters in millions)
    "mobilenetv1_100": (4_231_976, 0.5687e9, 569, 4.2),
    "mobilenet_v1": (4_231_976, 0.5687e9, 569, 4.2),
    "mobilenetv1_075": (None, None, 325, 2.6),
    "mobilenetv1_050": (None, None, 149, 1.3),
    "mobilenetv1_025": (None, None, 41, 0.5),
    "mobilenetv2_100": (3_504_872, 0.3008e9, 300, None),
    "mobilenet_v2": (3_504_872, 0.3008e9, 300, None),
    "mobilenetv2_075": (2_636_424, 0.2091e9, None, None),
    "mobilenetv2_050": (1_968_680, 0.0971e9, None, None),
    "mobilenetv2_140": (6_108_776, 0.5822e9, 585, None),  # 6.9 M parameters are published; nothing has them
}
SMALL = ("mobilenet_v1_small", "mobilenet_v2_small")


def naive_layer(x: Tensor, state: dict[str, Tensor], conv: str, norm: str, training: bool, stride: int = 1) -> Tensor:
    return naive_norm(naive_conv(x, state[f"{conv}.weight"], stride), state, norm, training)


def naive_separable(x, state, *, stride, training):
    x = naive_layer(x, state, "conv_dw", "bn1", training, stride).clamp(0, 6)
    return naive_layer(x, state, "conv_pw", "bn2", training).clamp(0, 6)


def naive_inverted(x, state, *, stride, training, residual=True, linear=True):
    y = naive_layer(x, state, "conv_pw", "bn1", training).clamp(0, 6)
    y = naive_layer(y, state, "conv_dw", "bn2", training, stride).clamp(0, 6)
    y = naive_layer(y, state, "conv_pwl", "bn3", training)
    y = y if linear else y.clamp(0, 6)
    return x + y if residual and stride == 1 and x.shape == y.shape else y


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("stage", "index"), [(0, 0), (1, 0), (1, 1), (3, 2)])
def test_depthwise_separable_convolutions_equal_the_loop(stage, index, training):
    torch.manual_seed(0)
    block = MobileNetV1(multiplier=0.125, num_classes=2).blocks[stage][index].double().train(training)
    randomise(block)
    x = 2 * torch.randn(2, block.conv_dw.in_channels, 7, 6, dtype=torch.float64)
    stride = 2 if stage and not index else 1
    equal_with_gradients(block, lambda x, s: naive_separable(x, s, stride=stride, training=training), x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"residual": False}, {"linear": False}, {"expansion": 2}])
@pytest.mark.parametrize(("stage", "index"), [(1, 0), (1, 1), (4, 0), (4, 1)])
def test_inverted_residuals_equal_the_loop(stage, index, options, training):
    torch.manual_seed(0)
    block = MobileNetV2(multiplier=0.35, num_classes=2, **options).blocks[stage][index].double().train(training)
    randomise(block)
    chans = block.conv_pw.in_channels
    assert block.conv_dw.in_channels == options.pop("expansion", 6) * chans
    x = torch.randn(2, chans, 7, 6, dtype=torch.float64)
    stride = 2 if stage == 1 and not index else 1
    equal_with_gradients(block, lambda x, s: naive_inverted(x, s, stride=stride, training=training, **options), x)


@pytest.mark.parametrize("width", [1.0, 0.75, 0.35, 1.4])
def test_v2_equals_torchvisions(width):
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2(width_mult=width, num_classes=7, dropout=0).double()
    ours = timm.create_model("mobilenet_v2", multiplier=width, num_classes=7).double()
    equal_by_order(ours, theirs, torch.randn(2, 3, 64, 48, dtype=torch.float64))
    name = {1.0: "100", 0.75: "075", 0.35: "035", 1.4: "140"}[width]
    timms = timm.create_model(f"mobilenetv2_{name}", num_classes=7).double()
    assert list(timms.state_dict()) == list(ours.state_dict())
    equal_by_order(ours, timms, torch.randn(2, 3, 64, 48, dtype=torch.float64))


def test_v1_equals_timms():
    torch.manual_seed(0)
    theirs = timm.create_model("mobilenetv1_100", num_classes=7).double()
    ours = timm.create_model("mobilenet_v1", num_classes=7).double()
    assert list(theirs.state_dict()) == list(ours.state_dict())
    equal_by_order(ours, theirs, torch.randn(2, 3, 64, 48, dtype=torch.float64))


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_papers(name):
    with torch.device("meta"):
        counted = count(timm.create_model(name), (3, 224, 224))
    parameters, macs, published_macs, published_parameters = COUNTS[name]
    if parameters:
        assert counted.parameters == parameters
        assert counted.macs == pytest.approx(macs, rel=0.001)
    if published_macs:
        assert counted.macs == pytest.approx(published_macs * 1e6, rel=0.01)
    if published_parameters:
        assert round(counted.parameters / 1e6, 1) == published_parameters


@pytest.mark.parametrize(("chans", "out", "size"), [(32, 64, 14), (512, 512, 7)])
def test_cost_of_a_layer_is_the_formula(chans, out, size):
    """Dk^2 M Df^2 + M N Df^2, and 1 / N + 1 / Dk^2 of the full convolution's."""
    separable = nn.Sequential(nn.Conv2d(chans, chans, 3, padding=1, groups=chans), nn.Conv2d(chans, out, 1))
    full = nn.Conv2d(chans, out, 3, padding=1)
    macs = count(separable, (chans, size, size)).macs
    assert macs == 9 * chans * size**2 + chans * out * size**2
    assert macs / count(full, (chans, size, size)).macs == pytest.approx(1 / out + 1 / 9)


def test_options_of_v1_are_the_papers_comparisons():
    def stages(**options):
        with torch.device("meta"):
            return timm.create_model("mobilenet_v1", **options).blocks

    assert [len(stage) for stage in stages()] == [1, 2, 2, 6, 2]
    assert [len(stage) for stage in stages(shallow=True)] == [1, 2, 2, 1, 2]
    full = [m for m in stages(separable=False).modules() if isinstance(m, nn.Conv2d)]
    assert len(full) == 13
    assert all(m.groups == 1 and m.kernel_size == (3, 3) for m in full)


@pytest.mark.parametrize("name", SMALL)
def test_the_small_network_is_the_papers_without_the_first_stride(name):
    """The same kernels, and what the paper's network computes once its first stride is taken away."""
    torch.manual_seed(0)
    large = timm.create_model(name.removesuffix("_small"), num_classes=10, in_chans=1,
                              multiplier={"mobilenet_v1_small": 0.6, "mobilenet_v2_small": 0.75}[name])  # fmt: skip
    small = timm.create_model(name, in_chans=1)
    small.load_state_dict(large.state_dict())
    large.conv_stem.stride = (1, 1)
    x = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(small.eval()(x), large.eval()(x))
        assert small.forward_features(x).shape[2:] == (2, 2)


@pytest.mark.parametrize("name", SMALL)
def test_sizes_channels_and_batches(name):
    for chans, height, width in ((1, 28, 28), (3, 32, 32), (1, 17, 31), (2, 5, 9), (3, 1, 1)):
        network = timm.create_model(name, multiplier=0.25, in_chans=chans, num_classes=4).eval()
        x = torch.randn(2, chans, height, width)
        with torch.no_grad():
            both = network(x)
            alone = torch.cat([network(x[:1]), network(x[1:])])
        torch.testing.assert_close(alone, both, rtol=1e-4, atol=1e-4)
        assert both.shape == (2, 4)


@pytest.mark.parametrize("name", SMALL)
def test_a_batch_of_one_trains(name):
    network = timm.create_model(name, multiplier=0.25, in_chans=1)
    F.cross_entropy(network(torch.randn(1, 1, 28, 28)), torch.tensor([3])).backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_heads_and_features(name):
    torch.manual_seed(0)
    network = timm.create_model(name, in_chans=1).eval()
    x = torch.randn(2, 1, 28, 28)
    last = network.forward_features(x)
    torch.testing.assert_close(network.forward_head(last, pre_logits=True), last.mean((2, 3)))
    head = network.get_classifier()
    torch.testing.assert_close(network(x), last.mean((2, 3)) @ head.weight.T + head.bias)

    maps = timm.create_model(name, in_chans=1, features_only=True).eval()
    maps.load_state_dict(
        {key.replace("blocks.", "blocks_", 1): v for key, v in network.state_dict().items()}, strict=False
    )
    outputs = maps(x)
    y, expected = network.bn1(network.conv_stem(x)), []
    for stage in network.blocks:
        y = stage(y)
        expected.append(y)
    for got, chans, reduction in zip(outputs, maps.feature_info.channels(), maps.feature_info.reduction(), strict=True):
        assert got.shape[1:] == (chans, -(-28 // reduction), -(-28 // reduction))
        assert any(got.shape == one.shape and torch.allclose(got, one, atol=1e-5) for one in expected)
    torch.testing.assert_close(outputs[-1], y)
    assert maps.feature_info.reduction() == [1, 2, 4, 8, 16]

    network.double().reset_classifier(3)
    assert network(x.double()).shape == (2, 3)
    network.reset_classifier(0)
    torch.testing.assert_close(network(x.double()), last.mean((2, 3)).double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("mobilenet_v1_small", {"multiplier": 0}, "multiplier=0: must be above 0"),
        ("mobilenet_v2_small", {"multiplier": -1.0}, "multiplier=-1.0: must be above 0"),
        ("mobilenet_v2_small", {"expansion": 0.5}, "expansion=0.5: must be at least 1"),
    ],
)
def test_what_cannot_be_is_one_line(name, options, says):
    with pytest.raises(UserError, match=says):
        timm.create_model(name, **options)
