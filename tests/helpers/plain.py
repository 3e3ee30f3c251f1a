"""Layers as plain functions of a state dict, in float64: references are transcribed with them layer by layer."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OFFICIAL = Path(__file__).parents[1] / "papers" / "official"
State = dict[str, Tensor]


def conv(x: Tensor, state: State, key: str, stride: int = 1) -> Tensor:
    """A convolution without bias that keeps the size; its groups follow from the weight's shape."""
    weight = state[f"{key}.weight"]
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2, groups=groups)


def norm(x: Tensor, state: State, key: str, training: bool) -> Tensor:
    """(x - mean) / sqrt(var + 1e-5) * weight + bias, per channel over N, H, W, or with the running statistics."""
    if training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    else:
        mean, var = state[f"{key}.running_mean"], state[f"{key}.running_var"]
    mean, var, scale, shift = (v.view(1, -1, 1, 1) for v in (mean, var, state[f"{key}.weight"], state[f"{key}.bias"]))
    return (x - mean) / (var + 1e-5).sqrt() * scale + shift


def drawn(shapes: dict[str, list[int]], seed: int = 0) -> State:
    """Random values for a state dict's keys, every one away from where it starts, maps of the size of one."""
    torch.manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
        elif key.endswith("running_var") or (key.endswith("weight") and len(shape) == 1):
            state[key] = torch.rand(shape, dtype=torch.float64) + 0.5
        elif len(shape) == 1:
            state[key] = torch.randn(shape, dtype=torch.float64) * 0.3
        else:
            state[key] = torch.randn(shape, dtype=torch.float64) * (2 / torch.tensor(shape[1:]).prod()) ** 0.5
    return state


def official(name: str) -> State:
    """Random values for an officially published state dict's keys and shapes."""
    return drawn(json.loads((OFFICIAL / f"{name}.json").read_text())["keys"])


def randomise(module: nn.Module) -> None:
    """Random values for a module of float64."""
    module.load_state_dict(drawn({key: list(value.shape) for key, value in module.state_dict().items()}))


def equal_with_gradients(module: nn.Module, reference, x: Tensor) -> None:
    """Output, and gradients of the input and of every parameter, against ``reference(x, state)``, in float64."""
    state = {key: value.detach().clone() for key, value in module.state_dict().items()}
    names = [name for name, _ in module.named_parameters()]
    for name in names:
        state[name].requires_grad_()
    twin, x = x.detach().clone().requires_grad_(), x.clone().requires_grad_()
    expected, got = reference(twin, state), module(x)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), [twin, *(state[name] for name in names)])
    grads = torch.autograd.grad((got * weights).sum(), [x, *module.parameters()])
    for name, ours, theirs in zip(["x", *names], grads, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}")


def relative(got: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    got, expected = got.detach().double(), expected.detach().double()
    return float((got - expected).abs().max() / expected.abs().max())
