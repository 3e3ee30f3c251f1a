"""What convolutions cost and see: the formulas, or every convolution of a network by them."""

import importlib
from typing import Any, NamedTuple

import timm
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from paperzoo import cards
from paperzoo.accounting import convolution, count, receptive_field
from paperzoo.accounting.receptive_field import Field
from paperzoo.display import Display
from paperzoo.errors import UserError
from paperzoo.verbs import whole_number

FORMULAS = {
    "output size": "floor((W + 2P - D(K - 1) - 1) / S) + 1",
    "parameters": "K K (C_in / G) C_out, and C_out of a bias",
    "multiply-adds": "H' W' K K (C_in / G) C_out",
    "separable": "K K C_in + C_in C_out parameters, 1 / C_out + 1 / (K K) of the plain one's multiply-adds",
    "memory accesses": "H W C_in + H' W' C_out + K K (C_in / G) C_out",
    "receptive field": "r' = r + D(K - 1) j, j' = S j, from r = j = 1",
}
EXAMPLE: dict[str, Any] = {"kernel": 3, "in_chans": 64, "out_chans": 64}
MAP = 56


class Layer(NamedTuple):
    """A convolution of a network, and the size of its map."""

    name: str
    conv: nn.Conv2d
    before: tuple[int, int]
    after: tuple[int, int]


def show(network: str | None = None, size: str = "224", chans: str = "3") -> None:
    """The formulas with an example; with a network's name, each of its convolutions.

    Args:
        network: a name of a paper's card, or of timm's.
        size, chans: of the image.
    """
    console = Display().console
    if network is None:
        _formulas(console)
    else:
        _network(console, network, whole_number("size", size, minimum=1), whole_number("chans", chans, minimum=1))


def _formulas(console: Console) -> None:
    table = Table("what", "formula", "3x3, 64 to 64, on 56x56", box=None, header_style="bold", pad_edge=False)
    same, halved = (convolution.output_size(MAP, 3, stride, padding=1) for stride in (1, 2))
    separable, ratio = convolution.separable_macs(map_size=MAP, **EXAMPLE), convolution.separable_ratio(3, 64)
    examples = {
        "output size": f"{same}, with stride 2 {halved}",
        "parameters": f"{convolution.parameters(**EXAMPLE):,}",
        "multiply-adds": f"{convolution.macs(map_size=MAP, **EXAMPLE):,}",
        "separable": f"{separable:,}, {ratio:.3f}",
        "memory accesses": f"{convolution.accesses(map_size=MAP, **EXAMPLE):,}",
        "receptive field": f"{Field().window(3).window(3).size:.0f} after two of them",
    }
    for name, formula in FORMULAS.items():
        table.add_row(name, formula, examples[name])
    console.print(table)
    console.print("\nW, H: input; W', H': output; K kernel, S stride, P padding, D dilation, G groups, C channels")
    console.print("python src/zoo.py page=arithmetic network=scnet50 counts a network's convolutions")


def _network(console: Console, name: str, size: int, chans: int) -> None:
    network = _made(name, chans)
    table = Table("convolution", "kernel", "stride", "groups", "channels", "map", box=None, header_style="bold")
    for column in ("parameters", "multiply-adds"):
        table.add_column(column, justify="right")
    parameters = macs = 0
    for layer in layers(network, (chans, size, size)):
        conv = layer.conv
        shape = (conv.kernel_size, conv.in_channels, conv.out_channels)
        counted = convolution.parameters(*shape, conv.groups, conv.bias is not None)
        costs = convolution.macs(*shape, layer.after, conv.groups)
        parameters, macs = parameters + counted, macs + costs
        cells = ("x".join(map(str, conv.kernel_size)), str(conv.stride[0]), str(conv.groups))
        channels = f"{conv.in_channels} to {conv.out_channels}"
        table.add_row(layer.name, *cells, channels, "x".join(map(str, layer.after)), f"{counted:,}", f"{costs:,}")
    console.print(table)
    whole = count(network, (chans, size, size))
    console.print(f"\nconvolutions: {parameters:,} parameters, {macs:,} multiply-adds")
    totals = f"{whole.macs:,} multiply-adds, {whole.accesses:,} memory accesses"
    console.print(f"network:      {whole.parameters:,} parameters, {totals}")
    console.print(f"receptive field before pooling: {_field(network, (chans, size, size))}")


def _field(network: nn.Module, input_size: tuple[int, int, int]) -> str:
    method = "forward_features" if hasattr(network, "forward_features") else "forward"
    try:
        high, wide = receptive_field(network, input_size, method)
    except UserError as error:
        return f"not known ({error})"
    return "all of the image" if high.size == float("inf") else f"{high.size:.0f} x {wide.size:.0f} pixels"


def layers(network: nn.Module, input_size: tuple[int, int, int]) -> list[Layer]:
    """The 2d convolutions of a network in the order in which an image (C, H, W) meets them."""
    found: list[Layer] = []

    def note(name: str) -> object:
        def hook(conv: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            before, after = tuple(inputs[0].shape[-2:]), tuple(output.shape[-2:])
            found.append(Layer(name, conv, before, after))  # type: ignore[arg-type]

        return hook

    convs = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    handles = [module.register_forward_hook(note(name)) for name, module in convs]  # type: ignore[arg-type]
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *input_size))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _made(name: str, chans: int) -> nn.Module:
    for slug in cards.slugs():
        if name in cards.load(slug).known():
            importlib.import_module(f"paperzoo.papers.{slug}")
            break
    if not timm.is_model(name):
        raise UserError(f"network={name}: there is no such network, neither in a paper's card nor in timm")
    return timm.create_model(name, in_chans=chans)
