"""What a network costs: parameters, multiply-adds, activations."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


class Count(NamedTuple):
    """The cost of one image."""

    parameters: int
    macs: int  # multiply-adds of convolutions and linear layers, biases not counted; one multiply-add is one
    activations: int  # numbers that those layers put out


def count(network: nn.Module, input_size: tuple[int, ...]) -> Count:
    """Count what a network costs on one image, by one forward pass of zeros in evaluation mode.

    The network is left as it was: modes, buffers, hooks, gradients. It may be on any device, ``meta`` too, which
    takes no memory and hardly any time.

    Args:
        network: takes (1, C, H, W).
        input_size: (C, H, W).
    """
    costs: list[tuple[int, int]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        costs.append((_macs(module, inputs[0], output), output.numel()))

    layers = [module for module in network.modules() if isinstance(module, (_ConvNd, nn.Linear))]
    like = next(network.parameters(), torch.empty(0))
    with _evaluating(network), torch.no_grad():
        handles = [layer.register_forward_hook(note) for layer in layers]
        try:
            network(torch.zeros(1, *input_size, device=like.device, dtype=like.dtype))
        finally:
            for handle in handles:
                handle.remove()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Count(parameters, sum(macs for macs, _ in costs), sum(numbers for _, numbers in costs))


def _macs(layer: nn.Module, image: Tensor, output: Tensor) -> int:
    if isinstance(layer, _ConvTransposeNd):  # each input number meets the kernels of its group
        return image.numel() * layer.out_channels // layer.groups * prod(layer.kernel_size)
    if isinstance(layer, _ConvNd):
        return output.numel() * layer.in_channels // layer.groups * prod(layer.kernel_size)
    assert isinstance(layer, nn.Linear)
    return output.numel() * layer.in_features


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, then each module's own mode again: a network may be frozen in parts."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
