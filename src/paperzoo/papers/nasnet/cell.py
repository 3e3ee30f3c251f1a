"""NASNet-A's two cells: what the search found (Fig. 4), as data, and the module that computes either.

Zoph, Vasudevan, Shlens, Le: Learning Transferable Architectures for Scalable Image Recognition, CVPR 2018.

A cell takes the outputs of the two cells before it, brings both to F filters (states 0 and 1), makes five new states,
each the sum of two operations on earlier ones, and joins the states of which it made no further use.
Modules are named as in the authors' state dicts. Shapes: B images, C channels, F filters, H x W pixels, S stride.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import pad_same
from torch import Tensor, nn

from paperzoo.papers.nasnet.drop_path import ScheduledDropPath

Norm = Callable[[int], nn.Module]
Operation = tuple[str, int]  # its name, and the state that it takes


class Genotype(NamedTuple):
    """A cell: ``pairs[i]`` makes state i + 2; the states in ``joined`` are the output."""

    pairs: tuple[tuple[Operation, Operation], ...]
    joined: tuple[int, ...]

    @property
    def expansion(self) -> int:
        """Channels of the output per filter."""
        return len(self.joined)


# State 0 is the output of the cell before, state 1 of the one before that.
NORMAL = Genotype(
    pairs=(
        (("sep5", 0), ("sep3", 1)),
        (("sep5", 1), ("sep3", 1)),
        (("avg3", 0), ("none", 1)),
        (("avg3", 1), ("avg3", 1)),
        (("sep3", 0), ("none", 0)),
    ),
    joined=(1, 2, 3, 4, 5, 6),
)
REDUCTION = Genotype(
    pairs=(
        (("sep5", 0), ("sep7", 1)),
        (("max3", 0), ("sep7", 1)),
        (("avg3", 0), ("sep5", 1)),
        (("none", 3), ("avg3", 2)),
        (("sep3", 2), ("max3", 0)),
    ),
    joined=(3, 4, 5, 6),
)


class SeparableConv(nn.Module):
    """A depthwise k x k convolution, then a pointwise one; padded as TensorFlow does ("SAME")."""

    def __init__(self, chans: int, filters: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.depthwise_conv2d = nn.Conv2d(chans, chans, kernel, stride, padding, groups=chans, bias=False)
        self.pointwise_conv2d = nn.Conv2d(chans, filters, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, F, ceil(H / S), ceil(W / S))."""
        conv = self.depthwise_conv2d
        if conv.stride != (1, 1):  # one pixel less at the top and left where the size is even
            x = pad_same(x, conv.kernel_size, conv.stride)
        return self.pointwise_conv2d(conv(x))


class Separable(nn.Module):
    """Twice: rectify, separable convolution, normalise; the stride is in the first."""

    def __init__(self, chans: int, filters: int, kernel: int, stride: int, norm_layer: Norm) -> None:
        super().__init__()
        self.separable_1 = SeparableConv(chans, filters, kernel, stride)
        self.bn_sep_1 = norm_layer(filters)
        self.separable_2 = SeparableConv(filters, filters, kernel)
        self.bn_sep_2 = norm_layer(filters)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, F, ceil(H / S), ceil(W / S))."""
        x = self.bn_sep_1(self.separable_1(F.relu(x)))
        return self.bn_sep_2(self.separable_2(F.relu(x, inplace=True)))


class ReluConvNorm(nn.Module):
    """Rectify, 1x1 convolution, normalise."""

    def __init__(self, chans: int, filters: int, norm_layer: Norm) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.conv = nn.Conv2d(chans, filters, 1, bias=False)
        self.bn = norm_layer(filters)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, F, H, W)."""
        return self.bn(self.conv(self.act(x)))


class Pool(nn.Module):
    """The maximum or mean of 3 x 3 pixels, those beyond the border left out; padded as TensorFlow does ("SAME").

    ``count_padding`` lets pixels beyond the border count as zeros in a mean of stride 2, as timm's nasnetalarge does.
    """

    def __init__(self, kind: str, stride: int) -> None:
        super().__init__()
        self.kind, self.stride, self.count_padding = kind, stride, False

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H / S), ceil(W / S))."""
        # At stride 2 an even size is padded at its end alone, which is what ceil_mode does.
        padding = [1 if self.stride == 1 else size % 2 for size in x.shape[2:]]
        if self.kind == "max":
            return F.max_pool2d(x, 3, self.stride, padding, ceil_mode=True)
        if self.count_padding and self.stride == 2:
            return F.avg_pool2d(pad_same(x, (3, 3), (2, 2)), 3, 2)
        return F.avg_pool2d(x, 3, self.stride, padding, ceil_mode=True, count_include_pad=False)

    def extra_repr(self) -> str:
        """For print(network)."""
        return f"{self.kind}, stride={self.stride}"


def make_operation(name: str, chans: int, filters: int, stride: int, norm_layer: Norm) -> nn.Module | None:
    """The module of ``sep3``, ``sep5``, ``sep7``, ``avg3``, ``max3`` or ``none``; None where nothing is to be done.

    A pooling or ``none`` has a 1x1 convolution where the channels are not F yet (in CIFAR's first cell alone).
    """
    kind, size = name[:3], name[3:]
    if kind == "sep":
        return Separable(chans, filters, int(size), stride, norm_layer)
    if name == "none":
        return None if chans == filters else ReluConvNorm(chans, filters, norm_layer)
    pool = Pool(kind, stride)
    return pool if chans == filters else nn.Sequential(pool, *_project(chans, filters, norm_layer))


def _project(chans: int, filters: int, norm_layer: Norm) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(chans, filters, 1, bias=False), norm_layer(filters)


class Cell(nn.Module):
    """A cell of the network.

    Args:
        genotype: ``NORMAL`` or ``REDUCTION``.
        chans: channels of the output of the cell before.
        chans_before: of the one before that.
        filters: F.
        stride: 2 for a reduction cell; of operations on states 0 and 1.
        before: what becomes of state 1: ``project`` it, ``reduce`` it where it has twice the size, or take it ``raw``
            (the first cell, which has one input).
        norm_layer: called with the number of channels.
        keep: of ScheduledDropPath.
    """

    def __init__(
        self,
        genotype: Genotype,
        chans: int,
        chans_before: int,
        filters: int,
        stride: int = 1,
        before: str = "project",
        norm_layer: Norm = nn.BatchNorm2d,
        keep: float = 1.0,
    ) -> None:
        super().__init__()
        self.genotype, self.before = genotype, before
        if before == "project":
            self.conv_prev_1x1 = ReluConvNorm(chans_before, filters, norm_layer)
        self.conv_1x1 = ReluConvNorm(chans, filters, norm_layer)
        if before == "reduce":
            self.path_1 = nn.Sequential()
            self.path_1.add_module("conv", nn.Conv2d(chans_before, filters // 2, 1, bias=False))
            self.path_2 = nn.Sequential()
            self.path_2.add_module("conv", nn.Conv2d(chans_before, filters - filters // 2, 1, bias=False))
            self.final_path_bn = norm_layer(filters)
        raw = {1: chans_before} if before == "raw" else {}
        for index, pair in enumerate(genotype.pairs):
            for side, (name, state) in zip(("left", "right"), pair, strict=True):
                step = stride if state < 2 else 1
                operation = make_operation(name, raw.get(state, filters), filters, step, norm_layer)
                self.add_module(f"comb_iter_{index}_{side}", operation)
        fits = 1 not in genotype.joined or raw.get(1, filters) == filters
        self.joined_1x1 = None if fits else nn.Sequential(*_project(chans_before, filters, norm_layer))
        self.drop_path = ScheduledDropPath(keep)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """(B, chans, H, W), (B, chans_before, H, W or twice that) -> (B, F * joined, H / S, W / S), rounded up."""
        states = [self.conv_1x1(x), self._state_1(before)]
        for index, (left, right) in enumerate(self.genotype.pairs):
            one = self._operate(f"comb_iter_{index}_left", left, states)
            # Twice the mean of one state: computed once, dropped apart.
            same = left == right and isinstance(getattr(self, f"comb_iter_{index}_right"), Pool)
            two = one if same else self._operate(f"comb_iter_{index}_right", right, states)
            states.append(self._drop(left, one) + self._drop(right, two))
        if self.joined_1x1 is not None:
            states[1] = self.joined_1x1(states[1])
        return torch.cat([states[index] for index in self.genotype.joined], dim=1)

    def _operate(self, name: str, operation: Operation, states: list[Tensor]) -> Tensor:
        module, x = getattr(self, name), states[operation[1]]
        return x if module is None else module(x)

    def _drop(self, operation: Operation, y: Tensor) -> Tensor:
        """Every path but ``none`` may be dropped."""
        return y if operation[0] == "none" else self.drop_path(y)

    def _state_1(self, before: Tensor) -> Tensor:
        if self.before == "raw":
            return before
        if self.before == "project":
            return self.conv_prev_1x1(before)
        # Factorised reduction: every other pixel, and those between them (zeros beyond the border of an odd size).
        high, wide = (size % 2 for size in before.shape[2:])
        between = F.pad(before[:, :, 1::2, 1::2], (0, wide, 0, high))
        paths = [self.path_1(F.relu(before[:, :, ::2, ::2])), self.path_2(F.relu(between))]
        return self.final_path_bn(torch.cat(paths, dim=1))
