"""Networks with official weights against docs/facts.md's description, in torch's plain functions and float64.

The transcription reads the state dict by its published keys, and knows nothing of our modules or of timm's.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import shapes
import timm
import torch
import torch.nn.functional as F
from composed import compose
from torch import Tensor

from paperzoo.papers import res2net, scnet
from paperzoo.runs import checkpoints
from paperzoo.training import make_module

pytestmark = pytest.mark.full

OFFICIAL = Path(__file__).parent / "official"
State = dict[str, Tensor]
LAYERS = (3, 4, 6, 3)


def norm(x: Tensor, s: State, name: str) -> Tensor:
    """(x - mean) / sqrt(var + 1e-5) * weight + bias: batch normalisation in evaluation."""
    mean, var, weight, bias = (s[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    scale = weight / (var + 1e-5).sqrt()
    return x * scale[:, None, None] + (bias - mean * scale)[:, None, None]


def conv(x: Tensor, s: State, name: str, stride: int = 1) -> Tensor:
    """A convolution that keeps the size but for its stride; the groups follow from the kernel's shape."""
    weight = s[f"{name}.weight"]
    return F.conv2d(x, weight, None, stride, weight.shape[2] // 2, 1, x.shape[1] // weight.shape[1])


def mean_of_nine(x: Tensor, stride: int) -> Tensor:
    """3x3 average pooling whose divisor is nine everywhere: the border's zeros count."""
    padded = F.pad(x, (1, 1, 1, 1))
    height, width = ((n - 1) // stride + 1 for n in x.shape[2:])
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    nine = [padded[:, :, i : i + rows : stride, j : j + columns : stride] for i in range(3) for j in range(3)]
    return torch.stack(nine).sum(0) / 9


def mean_of_four(x: Tensor) -> Tensor:
    """2x2 average pooling, rounded up: an odd border's squares are means of the pixels that exist."""
    ones = torch.ones_like(x[:1, :1])
    odd = (0, x.shape[3] % 2, 0, x.shape[2] % 2)

    def total(y: Tensor) -> Tensor:
        y = F.pad(y, odd)
        return y[:, :, ::2, ::2] + y[:, :, 1::2, ::2] + y[:, :, ::2, 1::2] + y[:, :, 1::2, 1::2]

    return total(x) / total(ones)


def nearest(x: Tensor, height: int, width: int) -> Tensor:
    """Row i is row floor(i * h / H)."""
    rows = torch.arange(height) * x.shape[2] // height
    return x[:, :, rows][:, :, :, torch.arange(width) * x.shape[3] // width]


def mean_of_sixteen(x: Tensor) -> Tensor:
    """4x4 average pooling without overlap; what is left at the border is cut."""
    high, wide = x.shape[2] // 4, x.shape[3] // 4
    return x[:, :, : 4 * high, : 4 * wide].unflatten(2, (high, 4)).unflatten(4, (wide, 4)).mean((3, 5))


def scconv(x: Tensor, s: State, p: str, stride: int) -> Tensor:
    """Y1 = K4((K3 X1) sigmoid(X1 + Up(K2 AvgPool4(X1))))."""
    wide = norm(conv(mean_of_sixteen(x), s, f"{p}.k2.1"), s, f"{p}.k2.2")
    gate = torch.sigmoid(x + nearest(wide, *x.shape[2:]))
    return norm(conv(norm(conv(x, s, f"{p}.k3.0"), s, f"{p}.k3.1") * gate, s, f"{p}.k4.0", stride), s, f"{p}.k4.1")


def scnet_branch(x: Tensor, s: State, p: str, stride: int, first: bool, v1d: bool) -> Tensor:
    """v1d: the 3x3 kernels keep the size and 3x3 average pooling strides, in the blocks that stride alone."""
    inner = 1 if v1d else stride
    a = F.relu(norm(conv(x, s, f"{p}.conv1_a"), s, f"{p}.bn1_a"))
    b = F.relu(norm(conv(x, s, f"{p}.conv1_b"), s, f"{p}.bn1_b"))
    a = F.relu(norm(conv(a, s, f"{p}.k1.0", inner), s, f"{p}.k1.1"))
    b = F.relu(scconv(b, s, f"{p}.scconv", inner))
    if v1d and stride > 1:
        a, b = mean_of_nine(a, stride), mean_of_nine(b, stride)
    return norm(conv(torch.cat([a, b], 1), s, f"{p}.conv3"), s, f"{p}.bn3")


def res2net_branch(x: Tensor, s: State, p: str, stride: int, first: bool, v1d: bool) -> Tensor:
    """Four splits; the first block of every stage, layer1's too, sums nothing and averages its last split."""
    splits = F.relu(norm(conv(x, s, f"{p}.conv1"), s, f"{p}.bn1")).chunk(4, 1)
    outputs: list[Tensor] = []
    for i in range(3):
        seen = splits[i] if first or i == 0 else splits[i] + outputs[-1]
        outputs.append(F.relu(norm(conv(seen, s, f"{p}.convs.{i}", stride), s, f"{p}.bns.{i}")))
    outputs.append(mean_of_nine(splits[3], stride) if first else splits[3])
    return norm(conv(torch.cat(outputs, 1), s, f"{p}.conv3"), s, f"{p}.bn3")


def network(x: Tensor, s: State, branch: Callable[..., Tensor], v1d: bool) -> Tensor:
    """ResNet's frame. v1d (v1b in Res2Net's names): three 3x3 in the stem, shortcuts average before they project."""
    if v1d:
        x = F.relu(norm(conv(x, s, "conv1.0", 2), s, "conv1.1"))
        x = F.relu(norm(conv(x, s, "conv1.3"), s, "conv1.4"))
        x = conv(x, s, "conv1.6")
    else:
        x = conv(x, s, "conv1", 2)
    x = F.max_pool2d(F.relu(norm(x, s, "bn1")), 3, 2, 1)
    for stage, blocks in enumerate(LAYERS):
        for index in range(blocks):
            p, first = f"layer{stage + 1}.{index}", index == 0
            stride = 2 if stage and first else 1
            shortcut = x
            if first and v1d:
                shortcut = mean_of_four(x) if stride > 1 else x
                shortcut = norm(conv(shortcut, s, f"{p}.downsample.1"), s, f"{p}.downsample.2")
            elif first:
                shortcut = norm(conv(x, s, f"{p}.downsample.0", stride), s, f"{p}.downsample.1")
            x = F.relu(branch(x, s, p, stride, first, v1d) + shortcut)
    return x.mean((2, 3)) @ s["fc.weight"].T + s["fc.bias"]


ROOMS = {"scnet50": scnet, "scnet50_v1d": scnet, "res2net50_26w_4s": res2net, "res2net50_v1b_26w_4s": res2net,
         "res2next50": res2net}  # fmt: skip
BRANCHES = {scnet: scnet_branch, res2net: res2net_branch}


def transcription(name: str) -> Callable[[Tensor, State], Tensor]:
    v1d = name.endswith(("v1d", "v1b_26w_4s"))
    return lambda x, state: network(x, state, BRANCHES[ROOMS[name]], v1d)


def random_weights(name: str) -> State:
    """Weights under the published keys, every value its own.

    The residual branches are small, as trained ones are: with large ones a deep network of gates is chaotic, and no
    two orders of float32 sums agree.
    """
    draw = torch.Generator().manual_seed(3)
    shapes = json.loads((OFFICIAL / f"{name}.json").read_text())["keys"]
    state = {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(3)
        elif len(shape) > 1:  # kernels and the classifier
            fan_in = torch.Size(shape[1:]).numel()
            state[key] = torch.randn(shape, generator=draw) * (1.5 / fan_in) ** 0.5
        elif key.endswith(("bias", "mean")):
            state[key] = torch.randn(shape, generator=draw) * 0.3
        else:  # gains and variances
            state[key] = (torch.rand(shape, generator=draw) + 0.5) * (0.3 if key.endswith("bn3.weight") else 1)
    return state


@pytest.mark.parametrize("name", ROOMS)
@pytest.mark.parametrize("size", [(128, 128), (137, 169)], ids=["even", "odd"])
def test_the_network_computes_what_the_paper_says(name, size):
    state = random_weights(name)
    ours = timm.create_model(name).eval()
    ROOMS[name].load_official(ours, {f"module.{key}": value for key, value in state.items()})
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(4))
    double = {key: value.double() for key, value in state.items()}
    with torch.no_grad():
        expected = transcription(name)(images.double(), double)
        got = ours(images)
        exact = ours.double()(images.double())
    largest = expected.abs().max()
    assert expected.std() > 0.01 * largest > 0  # the weights let the images matter
    assert (expected[0] - expected[1]).abs().max() > 0.003 * largest
    assert ((got - expected).abs().max() / largest).item() < 1e-5
    assert ((exact - expected).abs().max() / largest).item() < 1e-11


@pytest.mark.parametrize("name", ROOMS)
def test_a_checkpoint_of_official_weights_by_override(name, tmp_path):
    """model.checkpoint=<file>: a DataParallel file of 1000 classes, a data set of 10; features are the file's."""
    state = random_weights(name)
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "official.pth")
    paper = ROOMS[name].__name__.rsplit(".", 1)[1]
    config = compose(
        "train", [f"model={paper}", f"model.network={name}", f"model.checkpoint={tmp_path / 'official.pth'}"]
    )
    data = shapes.images(10, 3)
    module = make_module(config, data, checkpoints.read_plain(Path(config.model.checkpoint))).eval()
    assert module.network.num_classes == 10
    module.network.reset_classifier(1000)
    module.network.fc.load_state_dict({"weight": state["fc.weight"], "bias": state["fc.bias"]})
    images = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected = transcription(name)(images.double(), {key: value.double() for key, value in state.items()})
        got = module(images)
    assert ((got - expected).abs().max() / expected.abs().max()).item() < 1e-5
