"""MABN against its equations, written as loops in float64 with the buffers kept as lists."""

import copy
import math

import pytest
import timm
import torch
import torch.nn.functional as F
from composed import compose
from torch.utils.checkpoint import checkpoint

from paperzoo import cards
from paperzoo.papers.mabn import CenConv2d, MABN2d

C, B = 3, 2


class Naive:
    """One channel at a time; statistics of all iterations are remembered, the last ``size`` are averaged."""

    def __init__(self, size, eps=1e-5, momentum=0.98, warmup=100):
        self.size, self.eps, self.momentum, self.warmup = size, eps, momentum, warmup
        self.iteration, self.x2, self.gz = 0, [], []
        self.running = [1.0] * C

    def step(self, x, dy, weight, bias):
        self.iteration += 1
        averages = self.iteration > self.size and self.iteration >= self.warmup
        y, dx = torch.empty_like(x), torch.empty_like(x)
        dweight, dbias, x2s, gzs = [], [], [], []
        for c in range(C):
            x2 = float((x[:, c] ** 2).mean())
            x2s.append(x2)
            last = [old[c] for old in self.x2[len(self.x2) - self.size + 1 :]] + [x2]
            var = sum(last) / self.size if averages else x2
            sigma = math.sqrt(var + self.eps)
            r = 1.0
            if self.iteration > max(1000, self.warmup):
                r = min(max(sigma / math.sqrt(self.running[c] + self.eps), 1 / 5), 5)
            self.running[c] = self.momentum * self.running[c] + (1 - self.momentum) * var
            z = x[:, c] / sigma
            y[:, c] = weight[c] * r * z + bias[c]
            g = dy[:, c] * weight[c] * r
            gz = float((g * z).mean())
            gzs.append(gz)
            last = [old[c] for old in self.gz[len(self.gz) - self.size + 1 :]] + [gz]
            mean_gz = sum(last) / self.size if averages else gz
            dx[:, c] = (g - z * mean_gz) / sigma
            dweight.append(float((dy[:, c] * r * z).sum()))
            dbias.append(float(dy[:, c].sum()))
        self.x2.append(x2s)
        self.gz.append(gzs)
        return y, dx, dweight, dbias


def test_equals_its_equations_through_warm_up_averages_and_renormalisation():
    torch.manual_seed(0)
    layer, naive = MABN2d(C, B, 4 * B, warmup_iters=6).double(), Naive(4, warmup=6)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    for step in range(1010):
        spread = 1 + step % 7 + (20 if step > 1003 else 0)  # so that renormalisation has something to do, and limits
        x = torch.randn(B, C, 2, 3, dtype=torch.float64) * spread
        dy = torch.randn_like(x)
        mine = x.clone().requires_grad_()
        layer.zero_grad()
        y = layer(mine)
        y.backward(dy)
        expected = naive.step(x, dy, layer.weight.tolist(), layer.bias.tolist())
        got = (y.detach(), mine.grad, layer.weight.grad, layer.bias.grad)
        if step < 12 or step > 995:
            for value, wanted in zip(got, expected, strict=True):
                torch.testing.assert_close(value, torch.as_tensor(wanted, dtype=torch.float64))
            torch.testing.assert_close(layer.running_var.flatten(), torch.tensor(naive.running, dtype=torch.float64))
    assert int(layer.iters) == 1010


def test_in_warm_up_with_one_batch_the_backward_is_the_gradient():
    layer = MABN2d(C, B, B).double()
    x = torch.randn(B, C, 2, 3, dtype=torch.float64, requires_grad=True)
    parameters = [torch.randn(C, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def function(x, weight, bias):
        return torch.func.functional_call(copy.deepcopy(layer), {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(function, (x, *parameters))


def test_evaluation_divides_by_the_running_root():
    layer = MABN2d(C, B, 8).double().eval()
    layer.running_var.copy_(torch.tensor([1.0, 4.0, 9.0]).view(1, C, 1, 1))
    x = torch.randn(B, C, 2, 2, dtype=torch.float64)
    expected = x / torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).view(1, C, 1, 1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-8)
    assert int(layer.iters) == 0


def test_the_official_state_dict_has_these_names_and_shapes():
    assert {k: tuple(v.shape) for k, v in MABN2d(5, 2, 32).state_dict().items()} == {
        "weight": (5,), "bias": (5,), "running_var": (1, 5, 1, 1), "iters": (1,),
        "buffer_x2": (16, 5), "buffer_gz": (16, 5),
    }  # fmt: skip
    assert MABN2d(5, 64).buffer_size == 1  # a batch that is larger than what is simulated
    assert MABN2d(5, 12).buffer_size == 3


@pytest.mark.parametrize("groups", [1, 2])
def test_kernels_are_centralised(groups):
    conv = CenConv2d(4, 6, (3, 2), 2, 1, groups=groups, bias=True).double()
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    kernels = conv.weight.detach().clone()
    for kernel in kernels:
        kernel.sub_(sum(kernel.flatten().tolist()) / kernel.numel())
    torch.testing.assert_close(conv(x), F.conv2d(x, kernels, conv.bias, 2, 1, groups=groups))
    assert {k: tuple(v.shape) for k, v in conv.state_dict().items()} == {"weight": (6, 4 // groups, 3, 2), "bias": (6,)}
    assert CenConv2d(3, 4).bias is None


def test_no_images_leave_no_statistics_and_a_gradient_of_zero():
    layer = MABN2d(C, B, 4)
    layer(torch.randn(B, C, 2, 3))
    before = copy.deepcopy(layer.state_dict())
    x = torch.randn(0, C, 2, 3, requires_grad=True)
    layer(x).sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())
    assert x.grad.shape == x.shape
    assert not layer.weight.grad.any()


def test_a_recomputed_layer_renormalises_as_it_did():
    results = []
    for recomputed in (False, True):
        torch.manual_seed(0)
        layer = MABN2d(C, B, 4, warmup_iters=2).double()
        layer.iters.fill_(2000)  # past the iterations without renormalisation
        for spread in (1, 2, 3):
            x = (torch.randn(B, C, 2, 3, dtype=torch.float64) * spread).requires_grad_()
            y = checkpoint(layer, x, use_reentrant=False) if recomputed else layer(x)
            y.square().sum().backward()
        results.append([x.grad, layer.weight.grad, *layer.state_dict().values()])
    for plain, again in zip(*results, strict=True):
        assert torch.equal(plain, again)


def test_the_claims_compare_with_batch_normalisation_over_plain_kernels():
    for claim in cards.load("mabn").claims:
        config = compose("train", claim.scaled_test.baseline.split())
        kinds = {type(module) for module in timm.create_model(config.model.network).modules()}
        assert CenConv2d not in kinds  # norm=batch alone leaves those of model=mabn
