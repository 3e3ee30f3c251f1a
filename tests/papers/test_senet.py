"""SENet: the block against a loop, torchvision's and timm's; the official state dict against a transcription."""

import json
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from naive import equal_by_order, equal_with_gradients, naive_conv, naive_norm, randomise
from timm.layers import SqueezeExcite
from timm.models.res2net import Bottle2neck
from timm.models.resnet import Bottleneck
from timm.models.senet import SEModule
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from paperzoo.accounting import count
from paperzoo.errors import UserError
from paperzoo.papers import resnext, senet
from paperzoo.papers.senet import SEBlock

OFFICIAL = Path(__file__).parent / "official"
COUNTS = {  # docs/facts.md
    "seresnet50": (28_088_024, 4.0917e9),
    "legacy_seresnet50": (28_088_024, 3.8605e9),
    "seresnet101": (49_326_872, 7.806e9),
    "seresnet152": (66_821_848, None),
    "seresnext50_32x4d": (27_559_896, 4.233e9),
    "seresnext101_32x4d": (48_955_416, 7.975e9),
    "senet154": (115_088_984, 20.688e9),
    "se_resnet50_moskomule": (28_071_976, 4.0917e9),
}


def naive_excitation(x: Tensor, w1: Tensor, w2: Tensor, b1: Tensor | None = None, b2: Tensor | None = None) -> Tensor:
    """Image by image, channel by channel."""
    images = []
    for image in x:
        z = torch.stack([channel.sum() / channel.numel() for channel in image])  # Eq. 2
        narrow = torch.stack([(row * z).sum() for row in w1]) + (0 if b1 is None else b1)
        wide = torch.stack([(row * narrow.clamp(min=0)).sum() for row in w2]) + (0 if b2 is None else b2)
        s = 1 / (1 + (-wide).exp())  # Eq. 3
        images.append(torch.stack([channel * weight for channel, weight in zip(image, s, strict=True)]))  # Eq. 4
    return torch.stack(images)


def in_block(x: Tensor, state: dict[str, Tensor], prefix: str = "") -> Tensor:
    return naive_excitation(
        x, state[f"{prefix}fc.0.weight"], state[f"{prefix}fc.2.weight"],
        state.get(f"{prefix}fc.0.bias"), state.get(f"{prefix}fc.2.bias"),
    )  # fmt: skip


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("channels", "reduction", "bias"), [(32, 16, False), (12, 4, True), (10, 4, False), (3, 16, True)]
)
def test_block_equals_the_loop(channels, reduction, bias, layout):
    """Channels that the reduction does not divide, or that are fewer, too."""
    torch.manual_seed(0)
    block = SEBlock(channels, reduction, bias).double()
    randomise(block)
    assert block.fc[0].out_features == max(1, channels // reduction)
    x = torch.randn(3, channels, 5, 4, dtype=torch.float64).contiguous(memory_format=layout)
    equal_with_gradients(block, in_block, x)


@pytest.mark.parametrize(
    ("squeeze", "excitation", "expected"),
    [
        ("max", "sigmoid", lambda x, w1, w2: x * torch.sigmoid(F.relu(x.amax((2, 3)) @ w1.T) @ w2.T)[:, :, None, None]),
        ("avg", "tanh", lambda x, w1, w2: x * torch.tanh(F.relu(x.mean((2, 3)) @ w1.T) @ w2.T)[:, :, None, None]),
        ("avg", "relu", lambda x, w1, w2: x * F.relu(F.relu(x.mean((2, 3)) @ w1.T) @ w2.T)[:, :, None, None]),
    ],
)
def test_ablations(squeeze, excitation, expected):
    torch.manual_seed(0)
    block = SEBlock(8, 4, squeeze=squeeze, excitation=excitation).double()
    randomise(block)
    x = torch.randn(2, 8, 4, 5, dtype=torch.float64)
    equal_with_gradients(block, lambda x, s: expected(x, s["fc.0.weight"], s["fc.2.weight"]), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "theirs",
    [lambda: SqueezeExcitation(64, 4), lambda: SqueezeExcite(64, rd_channels=4), lambda: SEModule(64, 16)],
    ids=["torchvision", "timm", "timm, legacy"],
)
def test_block_equals_torchvisions_and_timms(theirs, dtype):
    torch.manual_seed(0)
    ours = SEBlock(64, 16, bias=True).to(dtype)
    randomise(ours)
    equal_by_order(ours, theirs().to(dtype), torch.randn(4, 64, 7, 9, dtype=dtype), tolerance=1e-5)


def naive_bottleneck(x, state, *, stride, training, inner):
    """A bottleneck whose middle is given: the SE block weighs the branch before the sum."""
    y = F.relu(naive_norm(naive_conv(x, state["conv1.weight"]), state, "bn1", training))
    y = inner(y, state)
    y = in_block(naive_norm(naive_conv(y, state["conv3.weight"]), state, "bn3", training), state, "se.")
    shortcut = naive_norm(naive_conv(x, state["downsample.0.weight"], stride), state, "downsample.1", training)
    return F.relu(y + shortcut)


def shortcut(stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(6, 64, 1, stride, bias=False), nn.BatchNorm2d(64))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("cardinality", "base_width"), [(1, 64), (4, 12)])
def test_in_the_bottlenecks_of_resnet_and_resnext(cardinality, base_width, stride, training):
    torch.manual_seed(0)
    attention = partial(SEBlock, reduction=8)
    block = Bottleneck(6, 16, stride, shortcut(stride), cardinality, base_width, attn_layer=attention).double()
    randomise(block)

    def inner(y, state):
        return F.relu(naive_norm(naive_conv(y, state["conv2.weight"], stride), state, "bn2", training))

    x = torch.randn(2, 6, 7, 5, dtype=torch.float64)
    options = {"stride": stride, "training": training, "inner": inner}
    equal_with_gradients(block.train(training), lambda x, s: naive_bottleneck(x, s, **options), x)


def test_in_the_bottleneck_of_res2net():
    """At a scale of 2 Res2Net's middle is one convolution of the first half, and the second half averaged."""
    torch.manual_seed(0)
    block = Bottle2neck(
        6, 16, 2, shortcut(2), base_width=32, scale=2, norm_layer=nn.BatchNorm2d, attn_layer=SEBlock
    ).double()
    randomise(block)

    def inner(y, state):
        one, two = y.chunk(2, 1)
        one = F.relu(naive_norm(naive_conv(one, state["convs.0.weight"], 2), state, "bns.0", True))
        ninth = torch.full((two.shape[1], 1, 3, 3), 1 / 9, dtype=torch.float64)
        return torch.cat([one, naive_conv(two, ninth, 2)], 1)

    x = torch.randn(2, 6, 7, 5, dtype=torch.float64)
    equal_with_gradients(block, lambda x, s: naive_bottleneck(x, s, stride=2, training=True, inner=inner), x)


def test_in_any_network_of_timms():
    with torch.device("meta"):
        plain = timm.create_model("res2net50_26w_4s")
        with_se = timm.create_model("res2net50_26w_4s", block_args={"scale": 4, "attn_layer": SEBlock})
    assert count(with_se, (3, 64, 64)).parameters - count(plain, (3, 64, 64)).parameters == 2_514_944


def test_senet_small_is_res_net_or_resnext_with_the_block():
    small = timm.create_model(
        "senet_small", cardinality=8, base_width=14, reduction=4, squeeze="max", excitation="tanh"
    )
    plain = resnext.resnext_small()
    blocks = [m for m in small.modules() if isinstance(m, SEBlock)]
    assert [(m.fc[0].in_features, m.fc[0].out_features) for m in blocks] == [(64, 16), (128, 32), (256, 64)]
    assert {(m.squeeze, type(m.fc[3])) for m in blocks} == {("max", nn.Tanh)}
    rest = {key: value.shape for key, value in small.state_dict().items() if ".se." not in key}
    assert rest == {key: value.shape for key, value in plain.state_dict().items()}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_papers(name):
    with torch.device("meta"):
        counted = count(timm.create_model(name), (3, 224, 224))
    parameters, macs = COUNTS[name]
    assert counted.parameters == parameters
    assert macs is None or counted.macs == pytest.approx(macs, rel=0.001)


def test_parameters_of_the_blocks_are_the_sum():
    """2 C^2 / 16 a block: 2,514,944 in SE-ResNet-50."""
    with torch.device("meta"):
        network = timm.create_model("se_resnet50_moskomule")
    blocks = [m for m in network.modules() if isinstance(m, SEBlock)]
    assert len(blocks) == 16
    own = sum(p.numel() for block in blocks for p in block.parameters())
    assert own == sum(n * 2 * c * c // 16 for n, c in ((3, 256), (4, 512), (6, 1024), (3, 2048))) == 2_514_944


def transcription(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """moskomule/senet.pytorch's se_resnet50 from its keys alone, in torch's functions."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-5)

    x = F.relu(norm(F.conv2d(x, w["conv1.weight"], stride=2, padding=3), "bn1"))
    x = F.max_pool2d(x, 3, 2, 1)
    for layer, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)):
        for index in range(blocks):
            at = f"layer{layer}.{index}"
            stride = 2 if layer > 1 and index == 0 else 1
            y = F.relu(norm(F.conv2d(x, w[f"{at}.conv1.weight"]), f"{at}.bn1"))
            y = F.relu(norm(F.conv2d(y, w[f"{at}.conv2.weight"], stride=stride, padding=1), f"{at}.bn2"))
            y = norm(F.conv2d(y, w[f"{at}.conv3.weight"]), f"{at}.bn3")
            s = F.relu(F.adaptive_avg_pool2d(y, 1).flatten(1) @ w[f"{at}.se.fc.0.weight"].T)
            y = y * torch.sigmoid(s @ w[f"{at}.se.fc.2.weight"].T)[:, :, None, None]
            if index == 0:
                x = norm(F.conv2d(x, w[f"{at}.downsample.0.weight"], stride=stride), f"{at}.downsample.1")
            x = F.relu(x + y)
    return x.mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]


def test_official_weights_compute_what_the_transcription_computes():
    torch.manual_seed(0)
    published = json.loads((OFFICIAL / "se_resnet50_moskomule.json").read_text())["keys"]
    weights = {}
    for key, shape in published.items():
        if key.endswith("num_batches_tracked"):
            weights[key] = torch.tensor(7)
        elif len(shape) > 1:  # kernels that keep the spread of what passes
            fan_in = torch.Size(shape[1:]).numel()
            weights[key] = torch.randn(shape) * (2 / fan_in) ** 0.5
        elif key.endswith("bn3.weight"):  # small branches: sums of 16 blocks stay where the sigmoids are not saturated
            weights[key] = torch.rand(shape) * 0.4
        else:
            weights[key] = torch.rand(shape) + 0.5 if key.endswith(("weight", "var")) else torch.randn(shape) * 0.2
    network = timm.create_model("se_resnet50_moskomule").eval()
    senet.load_official(network, {"state_dict": {f"module.{key}": value for key, value in weights.items()}})
    x = torch.randn(2, 3, 96, 80)
    expected = transcription(x.double(), {key: value.double() for key, value in weights.items()})
    with torch.no_grad():
        single, double = network(x), network.double()(x.double())
    assert (double - expected).norm() / expected.norm() < 1e-10
    assert (single - expected).norm() / expected.norm() < 1e-5
    assert expected.std() > 0.01


def test_keys_shapes_and_order_are_the_published_ones():
    with torch.device("meta"):
        network = timm.create_model("se_resnet50_moskomule")
    published = json.loads((OFFICIAL / "se_resnet50_moskomule.json").read_text())["keys"]
    assert [(key, list(value.shape)) for key, value in network.state_dict().items()] == list(published.items())


@pytest.mark.parametrize("name", ["se_resnet50_moskomule", "seresnet50", "legacy_seresnet50"])
def test_large_networks_take_small_images_features_and_other_heads(name):
    torch.manual_seed(0)
    network = timm.create_model(name, in_chans=1, num_classes=7).eval()
    x = torch.randn(1, 1, 28, 28)
    assert network(x).shape == (1, 7)
    network.reset_classifier(0)
    torch.testing.assert_close(network(x), network.forward_features(x).mean((2, 3)))
    features = timm.create_model(name, features_only=True).eval()
    assert [m.shape[1] for m in features(torch.zeros(1, 3, 64, 64))] == [64, 256, 512, 1024, 2048]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SEBlock(8, 0), "SEBlock of 8 channels with reduction=0: must be at least 1 each"),
        (lambda: SEBlock(0), "must be at least 1 each"),
        (lambda: SEBlock(8, squeeze="min"), "squeeze=min, excitation=sigmoid: must be one of avg, max"),
        (lambda: SEBlock(8, excitation="swish"), "one of sigmoid, tanh, relu"),
    ],
)
def test_what_cannot_be_is_one_line(make, says):
    with pytest.raises(UserError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)
