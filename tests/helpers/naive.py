"""Layers written out, for comparisons in float64, and the comparison."""

import torch
import torch.nn.functional as F
from torch import Tensor


def naive_norm(x: Tensor, state: dict[str, Tensor], name: str, training: bool) -> Tensor:
    """(x - mean) / sqrt(var + 1e-5) * weight + bias, per channel over N, H, W."""
    if training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    else:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    shape = (1, -1, 1, 1)
    x = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
    return x * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)


def naive_conv(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """Sum over the kernel's positions of shifted images, with zeros around: one einsum per position."""
    size, groups = weight.shape[2], x.shape[1] // weight.shape[1]
    pad = dilation * (size // 2)
    padded = F.pad(x, (pad, pad, pad, pad))
    height, width = ((n - 1) // stride + 1 for n in x.shape[2:])
    outputs = []
    for part, kernel in zip(padded.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        total = 0
        for i in range(size):
            for j in range(size):
                shifted = part[:, :, i * dilation :: stride, j * dilation :: stride][:, :, :height, :width]
                total = total + torch.einsum("bchw,oc->bohw", shifted, kernel[:, :, i, j])
        outputs.append(total)
    return torch.cat(outputs, 1)


def randomise(module: torch.nn.Module) -> None:
    """Every parameter and statistic away from its initial value, so that none can be forgotten unseen."""
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if name.endswith("var") else torch.randn_like(value) * 0.7)


def equal_with_gradients(module, naive, x: Tensor) -> None:
    """Outputs, and gradients of the input and of every parameter."""
    state = {key: value.detach().clone() for key, value in module.state_dict().items()}
    names = [name for name, _ in module.named_parameters()]
    for name in names:
        state[name].requires_grad_()
    twin = x.detach().clone().requires_grad_()
    x = x.clone().requires_grad_()
    expected, got = naive(twin, state), module(x)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), [twin, *(state[name] for name in names)])
    grads = torch.autograd.grad((got * weights).sum(), [x, *module.parameters()])
    for name, ours, theirs in zip(["x", *names], grads, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}")


def equal_by_order(ours: torch.nn.Module, theirs: torch.nn.Module, x: Tensor, tolerance: float = 1e-5) -> None:
    """Two modules of the same weights in the same order: the same outputs and gradients."""
    pairs = zip(theirs.state_dict().items(), ours.state_dict().values(), strict=True)
    theirs.load_state_dict({key: value.reshape(old.shape) for (key, old), value in pairs})
    results = []
    for each in (ours, theirs):
        each.zero_grad()
        image = x.clone().requires_grad_()
        out = each(image)
        out.square().sum().backward()
        results.append([out, image.grad, *(p.grad.flatten() for p in each.parameters())])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=tolerance, atol=tolerance * two.detach().abs().max().item())
