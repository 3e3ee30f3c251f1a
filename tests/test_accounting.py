"""Counts against torch's own counter, hand-computed cases and the facts of the papers."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import paperzoo.papers.res2net
import paperzoo.papers.scnet  # noqa: F401 (these register networks)
from paperzoo.accounting import Count, count

# docs/facts.md: parameters, MACs in G at 224 x 224
FACTS = {
    "resnet50": (25_557_032, 4.089),
    "resnext50_32x4d": (25_028_904, 4.2305),
    "resnext101_32x4d": (44_177_704, 7.970),
    "resnext101_32x8d": (88_791_336, 16.414),
    "resnext101_64x4d": (83_455_272, 15.460),
    "res2net50_26w_4s": (25_699_120, 4.2552),
    "res2net50_48w_2s": (25_287_304, 4.1598),
    "res2net50_14w_8s": (25_059_816, 4.1789),
    "res2net50_26w_6s": (37_051_448, 6.2955),
    "res2net50_26w_8s": (48_403_776, 8.3359),
    "res2net101_26w_4s": (45_206_688, 8.0670),
    "res2net50_v1b_26w_4s": (25_718_352, 4.4948),
    "res2net101_v1b_26w_4s": (45_225_920, 8.3066),
    "res2next50": (24_671_464, 4.1727),
}


@pytest.mark.parametrize("name", FACTS)
def test_timms_networks_have_the_papers_counts(name):
    with torch.device("meta"):
        network = timm.create_model(name)
    counted = count(network, (3, 224, 224))
    assert counted.parameters == FACTS[name][0]
    assert counted.macs == pytest.approx(FACTS[name][1] * 1e9, rel=2e-4)  # to the digits given


@pytest.mark.parametrize(
    ("layer", "size", "expected"),
    [  # by hand: weights, multiply-adds, output, input + weights + output
        (
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            (3, 8, 8),
            (216, 3 * 9 * 8 * 16, 8 * 16, 192 + 216 + 128),
        ),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), (8, 5, 5), (80, 9 * 8 * 25, 200, 200 + 80 + 200)),
        (nn.Conv2d(4, 6, (1, 3), groups=2, dilation=(1, 2)), (4, 4, 9), (42, 2 * 3 * 6 * 20, 6 * 20, 144 + 42 + 120)),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (4, 3, 3), (102, 4 * 6 * 4 * 9, 6 * 36, 36 + 102 + 216)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), (4, 3, 3), (114, 4 * 3 * 9 * 9, 6 * 25, 36 + 114 + 150)),
        (nn.Conv1d(2, 4, 3), (2, 10), (28, 2 * 3 * 4 * 8, 32, 20 + 28 + 32)),
        (nn.Conv3d(2, 3, 2), (2, 4, 4, 4), (51, 2 * 8 * 3 * 27, 81, 128 + 51 + 81)),
        (nn.Linear(5, 7), (3, 5), (42, 5 * 7 * 3, 21, 15 + 42 + 21)),
        (nn.Linear(5, 7, bias=False), (3, 5), (35, 5 * 7 * 3, 21, 15 + 35 + 21)),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_layers_by_hand(layer, size, expected, device):
    layer = copy.deepcopy(layer).to(device)  # the parameter is shared by both cases, in any order
    assert count(layer, size) == Count(*expected, other_accesses=0)


class Calls(nn.Module):
    """A function of the image, or of it twice."""

    def __init__(self, call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(x)


@pytest.mark.parametrize(
    ("call", "expected"),
    [  # numbers read and written, of an image of 4 x 6 x 6 = 144 numbers
        (torch.relu, 2 * 144),
        (torch.relu_, 2 * 144),
        (lambda x: x + x[:, :1], 144 + 36 + 144),
        (lambda x: x * x.mean((2, 3), keepdim=True), (144 + 4) + (144 + 4 + 144)),
        (lambda x: torch.cat([x, x], 1), 2 * 144 + 2 * 144),
        (lambda x: F.max_pool2d(x, 2), 144 + 36),
        (lambda x: F.avg_pool2d(x, 2), 144 + 36),
        (lambda x: F.channel_shuffle(x, 2), 2 * 144),
        (nn.BatchNorm2d(4), 144 + 4 * 4 + 144),
        (lambda x: F.dropout(x, 0.5, training=False), 0),
        (lambda x: x.split(2, 1)[1].unflatten(2, (2, 3)).transpose(1, 2)[None], 0),  # views
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_other_operations_by_hand(call, expected, device):
    calls = Calls(copy.deepcopy(call)).to(device)
    assert count(calls, (4, 6, 6)).other_accesses == expected


def test_a_function_costs_what_its_layer_does():
    layer = nn.Conv2d(4, 8, 3, 2, 1, groups=2)
    plain = Calls(lambda x: F.conv2d(x, layer.weight, layer.bias, 2, 1, groups=2))
    assert count(plain, (4, 9, 9))[1:] == count(layer, (4, 9, 9))[1:]


def test_a_product_costs_its_inner_dimension():
    """(3 x 5) (5 x 3), four of them: 5 multiply-adds for each of 4 * 9 numbers."""
    counted = count(Calls(lambda x: (x[0] @ x[0].transpose(1, 2))[None]), (4, 3, 5))
    assert counted == Count(0, 4 * 9 * 5, 4 * 9, 2 * 60 + 36, 0)


@pytest.mark.parametrize(
    ("network", "size", "macs"),
    [  # tokens of 8 numbers, 5 of them
        (lambda: Calls(lambda x: F.scaled_dot_product_attention(x, x, x)), (2, 5, 8), 2 * 2 * 5 * 5 * 8),
        (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8), 5 * 8 * (32 + 32) + 2 * 5 * 5 * 8),
        (lambda: nn.LSTM(8, 3, batch_first=True), (5, 8), 5 * 4 * 3 * (8 + 3)),
        (lambda: nn.GRU(8, 3, batch_first=True), (5, 8), 5 * 3 * 3 * (8 + 3)),
        (lambda: Calls(lambda x: torch.mv(x[0], x[0, 0])), (5, 8), 5 * 8),
    ],
    ids=["attention", "transformer", "LSTM", "GRU", "matrix by vector"],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_fused_kernels_cost_their_products(network, size, macs, device):
    fast = torch.backends.mha.get_fastpath_enabled()
    assert count(network().to(device), size).macs == macs
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_it_counts_in_inference_mode_what_it_counts_outside():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    with torch.inference_mode():
        inside = count(network, (1, 4, 4))
        made = count(nn.Linear(4, 3), (4,))
        assert torch.is_inference_mode_enabled()
    assert inside == count(network, (1, 4, 4))
    assert (inside.macs, made.macs) == (72 + 24, 12)


def test_a_layer_used_twice_costs_twice_and_has_its_parameters_once():
    shared = nn.Linear(4, 4, bias=False)
    assert count(nn.Sequential(shared, shared), (4,)) == Count(16, 32, 8, 2 * (4 + 16 + 4), 0)


def test_a_compiled_network_is_counted_as_it_stands():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    plain = count(network, (1, 4, 4))
    network.compile(backend="eager")
    assert count(network, (1, 4, 4)) == plain == Count(20, 72, 8, 16 + 20 + 8, 16)


@pytest.mark.parametrize(
    "name", ["resnet_small", "scnet_small", "resnext_small", "res2net_small", "resnet18", "scnet50_v1d"]
)
def test_macs_are_half_of_torchs_flops(name):
    import paperzoo.papers.resnet
    import paperzoo.papers.resnext  # noqa: F401

    network = timm.create_model(name, in_chans=1).eval()
    with FlopCounterMode(display=False) as flops:
        network(torch.zeros(1, 1, 32, 32))
    assert count(network, (1, 32, 32)).macs * 2 == flops.get_total_flops()


def test_the_network_is_left_as_it_was():
    network = timm.create_model("scnet_small", in_chans=1).to(memory_format=torch.channels_last)
    network.train()
    network.layer2.eval()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    random = torch.get_rng_state()
    count(network, (1, 28, 28))
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_hooks_and_modes_come_off_after_a_failure():
    network = timm.create_model("scnet_small", in_chans=1).train()
    with pytest.raises(RuntimeError):
        count(network, (3, 28, 28))
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


def test_other_dtypes():
    assert (
        count(nn.Conv2d(1, 2, 3).double(), (1, 4, 4))
        == count(nn.Conv2d(1, 2, 3).bfloat16(), (1, 4, 4))
        == Count(20, 72, 8, 16 + 20 + 8, 0)
    )
