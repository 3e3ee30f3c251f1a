"""Receptive fields against gradients: which pixels of the image a pixel of the map depends on."""

from math import inf

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import paperzoo.papers.nasnet
import paperzoo.papers.scnet
import paperzoo.papers.shufflenet_v2  # noqa: F401 (these register networks)
from paperzoo.accounting import Field, receptive_field
from paperzoo.accounting.receptive_field import of_chain
from paperzoo.errors import UserError


def seen(network: nn.Module, size: tuple[int, int, int], method: str = "forward") -> list[tuple[int, int]]:
    """For height and width: the lowest and highest pixel, relative to its own place, that any pixel depends on.

    Weights, image and statistics are positive, so that no dependence cancels; a maximum depends on all that it is of.
    """
    network = network.double().eval()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.fill_(0 if name.endswith(("mean", "bias")) else 1e-2 if value.dim() > 1 else 1)
    image = torch.rand(1, *size, dtype=torch.float64).requires_grad_()
    output = getattr(network, method)(image)
    found = []
    for dim, pixels in ((2, output.shape[2]), (3, output.shape[3])):
        stride = size[dim - 1] // pixels if size[dim - 1] % pixels == 0 else None
        extents = []
        for pixel in range(pixels):
            (grad,) = torch.autograd.grad(output.select(dim, pixel).sum(), image, retain_graph=True)
            hit = grad[0].abs().sum(0).sum(2 - dim + 1).nonzero()
            assert stride
            extents.append((int(hit.min()) - pixel * stride, int(hit.max()) - pixel * stride))
        found.append((min(low for low, _ in extents), max(high for _, high in extents)))
    return found


class Strips(nn.Module):
    """Means over height and over width, as strip pooling takes them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * x.mean(self.dim, keepdim=True)


class Skipped(nn.Module):
    """Every other pixel, and those between them, moved by a padding."""

    def forward(self, x: Tensor) -> Tensor:
        return (
            x[:, :, ::2, ::2] + F.pad(x, (3, 0, 1, 0))[:, :, 1:-1:2, 1:-1:2][:, :, : x.shape[2] // 2, : x.shape[3] // 2]
        )


@pytest.mark.parametrize(
    ("network", "stride"),
    [
        (nn.Conv2d(1, 1, (3, 5), padding=(1, 2)), 1),
        (nn.Conv2d(1, 2, 3, 2, 1), 2),
        (nn.Conv2d(1, 1, 3, padding=3, dilation=3), 1),
        (nn.Sequential(nn.Conv2d(1, 1, 4, 4), nn.Conv2d(1, 1, 3, padding=1), nn.ConvTranspose2d(1, 1, 4, 2, 1)), 2),
        (nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 1, 3, padding=1), nn.Upsample(scale_factor=2)), 1),
        (nn.Sequential(nn.AdaptiveAvgPool2d(12), nn.Conv2d(1, 1, 3, padding=1)), 4),
        (nn.MaxPool2d(3, 2, padding=1, dilation=2, ceil_mode=True), 2),
        (nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 1, 7, 2, 3)), 4),
    ],
)
def test_layers(network, stride):
    fields = receptive_field(network, (1, 48, 48))
    assert [(field.low, field.high) for field in fields] == seen(network, (1, 48, 48))
    assert {field.stride for field in fields} == {stride}


@pytest.mark.parametrize(
    ("name", "method", "size"),
    [
        ("resnet_small", "forward_features", 96),
        ("scnet_small", "forward_features", 224),
        ("res2net_small", "forward_features", 112),
        ("shufflenet_v2_small", "forward_features", 128),
        ("nasnet_small", "forward_features", 128),
    ],
)
def test_small_networks(name, method, size):
    import paperzoo.papers.res2net
    import paperzoo.papers.resnet  # noqa: F401

    network = timm.create_model(name, in_chans=1)
    (high, wide) = receptive_field(network, (1, size, size), method)
    assert high == wide
    assert high.stride == 4
    found = seen(network, (1, size, 8), method)[0]
    # SCNet's strides leave out the pixels that would see what upsampling adds at the window's end.
    assert found == (high.low, 28 if name == "scnet_small" else high.high)
    assert high.high >= found[1]
    assert receptive_field(network, (1, 32, 32)) == (Field(-inf, inf, inf),) * 2


def test_parts_of_an_image():
    assert receptive_field(Strips(2), (1, 8, 8)) == (Field(-inf, inf, 1), Field(-1, 1, 1))
    assert receptive_field(Strips(3), (1, 8, 8)) == (Field(-1, 1, 1), Field(-inf, inf, 1))
    network = Skipped()
    assert [(field.low, field.high) for field in receptive_field(network, (1, 24, 24))] == seen(network, (1, 24, 24))


@pytest.mark.parametrize(
    ("network", "size", "stride"),
    [  # well-known ones
        (torchvision.models.alexnet, 195, 32),
        (torchvision.models.vgg16, 212, 32),
    ],
)
def test_published_fields(network, size, stride):
    with torch.device("meta"):
        fields = receptive_field(network().features, (3, 224, 224))
    assert {(field.size, field.stride) for field in fields} == {(size, stride)}


def test_by_hand():
    """ResNet-50: 7, pool 11, then 3 + 4 + 6 + 3 kernels at strides 4, 8, 16, 32 (the first of a stage one earlier)."""
    with torch.device("meta"):
        field, _ = receptive_field(timm.create_model("resnet50"), (3, 224, 224), "forward_features")
    assert field.size == 11 + 2 * (3 * 4 + (4 + 3 * 8) + (8 + 5 * 16) + (16 + 2 * 32)) == 427
    chain = [{"kernel": 7, "stride": 2, "padding": 3}, {"kernel": 3, "stride": 2, "padding": 1}, {"kernel": 3}]
    assert of_chain(chain) == Field(-5, 13, 4)
    assert of_chain([]) == Field()


@pytest.mark.parametrize("name", ["strip_pooling_small", "spnet_small"])
def test_strips_have_seen_all(name):
    """A row and a column of means are added to a map, grids are products of matrices."""
    import paperzoo.papers.strip_pooling  # noqa: F401

    fields = receptive_field(timm.create_model(name), (3, 32, 32), "forward_features")
    assert [field.size for field in fields] == [inf, inf]


def test_a_gate_has_seen_all():
    assert receptive_field(timm.create_model("seresnet18"), (3, 64, 64), "forward_features")[0].size == inf


def test_what_has_no_field_is_one_line():
    with pytest.raises(UserError, match="windows differ where 3 pixels become 14"):
        receptive_field(timm.create_model("scnet50"), (3, 224, 224), "forward_features")
    with pytest.raises(UserError, match=r"there is no rule for aten\.upsample_bilinear2d"):
        receptive_field(nn.Upsample(scale_factor=2, mode="bilinear"), (1, 4, 4))
    with pytest.raises(UserError, match="gives no map"):
        receptive_field(nn.ParameterList(), (1, 4, 4), "parameters")
