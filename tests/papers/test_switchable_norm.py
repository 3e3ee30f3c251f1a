"""Switchable normalisation against the paper's equations, written as loops in float64."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from paperzoo.papers.switchable_norm import SwitchNorm1d, SwitchNorm2d, SwitchNorm3d

SHAPES = {SwitchNorm1d: (5, 4), SwitchNorm2d: (3, 4, 5, 2), SwitchNorm3d: (3, 4, 2, 3, 2)}


def softmax(values):
    raised = [math.exp(v) for v in values]
    return [r / sum(raised) for r in raised]


def moments(values, unbiased):
    n = len(values)
    mean = sum(values) / n
    return mean, sum((v - mean) ** 2 for v in values) / (n - 1 if unbiased else n)


def naive(layer, x, unbiased=False):
    """The equations, number by number. The official code's unbiased variances are those over the positions (2d, 3d)."""
    N, C = x.shape[:2]
    flat = x.reshape(N, C, -1).tolist()
    S = len(flat[0][0])
    spatial = S > 1
    own = [
        [moments(flat[n][c], unbiased and spatial) if spatial else (flat[n][c][0], 0.0) for c in range(C)]
        for n in range(N)
    ]

    def over(pairs):
        mean = sum(m for m, _ in pairs) / len(pairs)
        total = sum(v + m * m for m, v in pairs) / len(pairs) - mean * mean
        return mean, total * (len(pairs) / (len(pairs) - 1) if unbiased and not spatial else 1)

    layers = [over(own[n]) for n in range(N)]
    batches = [over([own[n][c] for n in range(N)]) for c in range(C)]
    weight, bias = layer.weight.flatten().tolist(), layer.bias.flatten().tolist()
    share_mean, share_var = softmax(layer.mean_weight.tolist()), softmax(layer.var_weight.tolist())
    out = torch.empty(N, C, S, dtype=torch.float64)
    for n in range(N):
        for c in range(C):
            kinds = ([own[n][c]] if spatial else []) + [layers[n], batches[c]]
            kinds = kinds[: len(share_mean)]
            mean = sum(share * m for share, (m, _) in zip(share_mean, kinds, strict=True))
            variance = sum(share * v for share, (_, v) in zip(share_var, kinds, strict=True))
            for s in range(S):
                y = (flat[n][c][s] - mean) / math.sqrt(variance + layer.eps)
                out[n, c, s] = y * weight[c] + bias[c]
    return out.view(x.shape), batches


def drawn(kind, **options):
    torch.manual_seed(1)
    layer = kind(4, **options).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer, torch.randn(SHAPES[kind], dtype=torch.float64) * 2 + 1


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("using_bn", [False, True])
def test_equals_the_equations(kind, unbiased, using_bn):
    layer, x = drawn(kind, unbiased=unbiased, using_bn=using_bn)
    expected, batches = naive(layer, x, unbiased)
    torch.testing.assert_close(layer(x), expected)
    if using_bn:
        keep = layer.momentum
        assert keep == (0.9 if kind is SwitchNorm2d else 0.997)
        means, variances = (torch.tensor(v, dtype=torch.float64) for v in zip(*batches, strict=True))
        torch.testing.assert_close(layer.running_mean.flatten(), (1 - keep) * means)
        torch.testing.assert_close(layer.running_var.flatten(), (1 - keep) * variances)
        layer.eval()
        y = layer(x)
        layer.running_mean.copy_(means.view_as(layer.running_mean))
        layer.running_var.copy_(variances.view_as(layer.running_var))
        assert not torch.allclose(y, layer(x))
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_with_all_weight_on_one_kind_it_is_that_normalisation(memory_format):
    x = torch.randn(6, 4, 5, 5).to(memory_format=memory_format)
    expected = [F.instance_norm(x), F.layer_norm(x, x.shape[1:]), F.batch_norm(x, None, None, training=True)]
    for place, y in enumerate(expected):
        layer = SwitchNorm2d(4)
        with torch.no_grad():
            for weight in (layer.mean_weight, layer.var_weight):
                weight.fill_(-1e4)[place] = 0
        torch.testing.assert_close(layer(x), y)
        assert layer.ratios()[layer.mixed[place]] == (1.0, 1.0)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("using_bn", [False, True])
def test_finite_differences_of_input_and_every_parameter(kind, using_bn):
    layer, x = drawn(kind, using_bn=using_bn)
    names = [name for name, _ in layer.named_parameters()]

    def function(x, *values):
        return torch.func.functional_call(copy.deepcopy(layer), dict(zip(names, values, strict=True)), (x,))

    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(function, (x.requires_grad_(), *values))
    layer.eval()
    assert torch.autograd.gradcheck(function, (x, *values))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_the_same_in_both_memory_formats(memory_format):
    layer, x = drawn(SwitchNorm2d)
    g = torch.randn_like(x)
    plain = x.clone().requires_grad_()
    (copy.deepcopy(layer)(plain) * g).sum().backward()
    other = x.clone().to(memory_format=memory_format).requires_grad_()
    (copy.deepcopy(layer)(other) * g).sum().backward()
    torch.testing.assert_close(other.grad, plain.grad)


def test_a_mean_of_ten_thousand_does_not_cancel():
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64).float() + 1e4
    expected, _ = naive(SwitchNorm2d(3).double(), x.double())
    assert float((SwitchNorm2d(3)(x) - expected).abs().max()) < 1e-3


def test_batch_averages_are_sums_to_be_divided():
    layer, x = drawn(SwitchNorm2d, using_moving_average=False)
    _, batches = naive(layer, x)
    layer(x)
    layer(x)
    means, variances = (torch.tensor(v, dtype=torch.float64) for v in zip(*batches, strict=True))
    torch.testing.assert_close(layer.running_mean.flatten(), 2 * means)
    torch.testing.assert_close(layer.running_var.flatten(), 2 * (variances + means.square()))


def test_the_official_state_dict_has_these_names_and_shapes():
    for kind, ones in ((SwitchNorm2d, (1, 1)), (SwitchNorm3d, (1, 1, 1))):
        assert {k: tuple(v.shape) for k, v in kind(7).state_dict().items()} == {
            "weight": (1, 7, *ones), "bias": (1, 7, *ones), "mean_weight": (3,), "var_weight": (3,),
            "running_mean": (1, 7, 1), "running_var": (1, 7, 1),
        }  # fmt: skip
    assert {k: tuple(v.shape) for k, v in SwitchNorm1d(7).state_dict().items()} == {
        "weight": (1, 7), "bias": (1, 7), "mean_weight": (2,), "var_weight": (2,),
        "running_mean": (1, 7), "running_var": (1, 7),
    }  # fmt: skip
    assert set(SwitchNorm2d(7, using_bn=False).state_dict()) == {"weight", "bias", "mean_weight", "var_weight"}
    assert SwitchNorm2d(7).running_var.abs().sum() == 0


def test_half_precision_and_wrong_shapes():
    layer, x = SwitchNorm2d(4), torch.randn(2, 4, 6, 6)
    y = layer(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), SwitchNorm2d(4)(x), atol=0.05, rtol=0.05)
    with pytest.raises(ValueError, match=r"SwitchNorm2d takes \(N, 4, H, W\), got \(2, 5, 6, 6\)"):
        layer(torch.randn(2, 5, 6, 6))


def test_no_images_leave_the_running_statistics_alone():
    layer, _ = drawn(SwitchNorm2d)
    layer.running_mean.fill_(1)
    layer(torch.randn(0, 4, 5, 2, dtype=torch.float64, requires_grad=True)).sum().backward()
    assert torch.equal(layer.running_mean, torch.ones(1, 4, 1))
    assert all(not p.grad.any() for p in layer.parameters())
