"""Strip pooling: averages over whole rows and columns let a position see along them, however far.

Hou, Zhang, Cheng, Feng: Strip Pooling: Rethinking Spatial Pooling for Scene Parsing, CVPR 2020.

Shapes: B images, C channels, H x W pixels. The authors' code calls the first module ``SPBlock`` and the second, the
paper's Mixed Pooling Module, ``StripPooling``; here they are named as in the paper, with the code's keys.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paperzoo.errors import UserError
from paperzoo.norms import needs_two

NormLayer = Callable[[int], nn.Module]
UP: dict[str, Any] = {"mode": "bilinear", "align_corners": True}  # as in the authors' code


class StripPoolingModule(nn.Module):
    """SPM: gates (B, C', H, W) in (0, 1), from the mean of each row and of each column.

    ``sigmoid(conv3(relu(y_v + y_h)))``, where y_v comes from the row means by a 3x1 convolution along the height, y_h
    from the column means by a 1x3 convolution along the width, each repeated over the other axis.

    Args:
        inplanes, outplanes: C and C'.
        norm_layer: called with C'.

    Raises:
        UserError: a number of channels is below 1.
    """

    def __init__(self, inplanes: int, outplanes: int, norm_layer: NormLayer = nn.BatchNorm2d) -> None:
        super().__init__()
        if inplanes < 1 or outplanes < 1:
            raise UserError(f"StripPoolingModule: inplanes={inplanes}, outplanes={outplanes}: must be at least 1 each")
        self.conv1 = nn.Conv2d(inplanes, outplanes, (3, 1), padding=(1, 0), bias=False)
        self.bn1 = norm_layer(outplanes)
        self.conv2 = nn.Conv2d(inplanes, outplanes, (1, 3), padding=(0, 1), bias=False)
        self.bn2 = norm_layer(outplanes)
        self.conv3 = nn.Conv2d(outplanes, outplanes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W), to be multiplied with."""
        _demand_statistics(self, x, alone=min(x.shape[-2:]) == 1)
        rows = self.bn1(self.conv1(x.mean(3, keepdim=True)))  # (B, C', H, 1)
        columns = self.bn2(self.conv2(x.mean(2, keepdim=True)))  # (B, C', 1, W)
        return self.conv3((rows + columns).relu_()).sigmoid()


class MixedPoolingModule(nn.Module):
    """MPM: the input and what two pyramids of pooling add, ``relu(x + conv3([short range, long range]))``.

    The short range sees squares of the image (two coarse grids and the full one), the long range its rows and columns;
    each works on a quarter of the channels.

    Args:
        in_channels: C, at least 4.
        pool_size: sides of the two grids; larger than the map is allowed.
        norm_layer: called with a number of channels.
        up_kwargs: of ``F.interpolate``, from the grids to the map.
        short_range, long_range: without one is an ablation of the paper's.

    Raises:
        UserError: too few channels, a grid without a cell, or neither range.
    """

    def __init__(
        self,
        in_channels: int,
        pool_size: Sequence[int] = (20, 12),
        norm_layer: NormLayer = nn.BatchNorm2d,
        up_kwargs: dict[str, Any] | None = None,
        *,
        short_range: bool = True,
        long_range: bool = True,
    ) -> None:
        super().__init__()
        if in_channels < 4 or len(pool_size) != 2 or min(pool_size) < 1:
            raise UserError(
                f"MixedPoolingModule: in_channels={in_channels}, pool_size={tuple(pool_size)}: must be at least 4"
                " channels (a quarter is used inside), and two sizes of at least 1"
            )
        if not (short_range or long_range):
            raise UserError("MixedPoolingModule: short_range=false, long_range=false: one of them must be true")
        self.pool_size, self.up_kwargs = tuple(pool_size), dict(UP if up_kwargs is None else up_kwargs)
        self.short_range, self.long_range = short_range, long_range
        inner = in_channels // 4

        def layer(chans: int, out: int, kernel: tuple[int, int], *, act: bool = False) -> nn.Sequential:
            padding = (kernel[0] // 2, kernel[1] // 2)
            conv = nn.Conv2d(chans, out, kernel, padding=padding, bias=False)
            return nn.Sequential(conv, norm_layer(out), *([nn.ReLU(inplace=True)] if act else []))

        if short_range:
            self.conv1_1 = layer(in_channels, inner, (1, 1), act=True)
        if long_range:
            self.conv1_2 = layer(in_channels, inner, (1, 1), act=True)
        if short_range:
            self.conv2_0 = layer(inner, inner, (3, 3))
            self.conv2_1 = layer(inner, inner, (3, 3))
            self.conv2_2 = layer(inner, inner, (3, 3))
        if long_range:
            self.conv2_3 = layer(inner, inner, (1, 3))
            self.conv2_4 = layer(inner, inner, (3, 1))
        if short_range:
            self.conv2_5 = layer(inner, inner, (3, 3), act=True)
        if long_range:
            self.conv2_6 = layer(inner, inner, (3, 3), act=True)
        self.conv3 = layer(inner * (short_range + long_range), in_channels, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        one_cell = self.short_range and 1 in self.pool_size
        one_strip = self.long_range and min(x.shape[-2:]) == 1
        _demand_statistics(self, x, alone=one_cell or one_strip or max(x.shape[-2:]) == 1)
        parts = []
        if self.short_range:
            parts.append(self._short(self.conv1_1(x)))
        if self.long_range:
            parts.append(self._long(self.conv1_2(x)))
        return (x + self.conv3(torch.cat(parts, 1))).relu_()

    def _short(self, x: Tensor) -> Tensor:
        """(B, C/4, H, W): the map and two coarser grids of it."""
        size = x.shape[-2:]
        total = self.conv2_0(x)
        for side, conv in zip(self.pool_size, (self.conv2_1, self.conv2_2), strict=True):
            total = total + F.interpolate(conv(grid_means(x, side)), size, **self.up_kwargs)
        return self.conv2_5(total.relu_())

    def _long(self, x: Tensor) -> Tensor:
        """(B, C/4, H, W): a row and a column of means, which interpolation to (H, W) would only repeat."""
        columns = self.conv2_3(x.mean(2, keepdim=True))  # (B, C/4, 1, W)
        rows = self.conv2_4(x.mean(3, keepdim=True))  # (B, C/4, H, 1)
        return self.conv2_6((columns + rows).relu_())


def grid_means(x: Tensor, side: int) -> Tensor:
    """(B, C, H, W) -> (B, C, side, side): the means that ``F.adaptive_avg_pool2d`` takes.

    As two products with matrices, whose gradient is deterministic on a GPU; the pooling's own is not.
    """
    rows, columns = (_windows(n, side, x) for n in x.shape[-2:])
    return rows @ x @ columns.T


def _windows(n: int, side: int, like: Tensor) -> Tensor:
    """(side, n): row i averages the positions from floor(i n / side) up to ceil((i + 1) n / side)."""
    i, place = torch.arange(side, device=like.device)[:, None], torch.arange(n, device=like.device)
    inside = ((place + 1) * side > i * n) & (place * side < (i + 1) * n)
    return inside.to(like.dtype) / inside.sum(1, keepdim=True)


def _demand_statistics(module: nn.Module, x: Tensor, *, alone: bool) -> None:
    """Batch normalisation cannot train on one number per channel: say what to change.

    Args:
        alone: whether some map of the module has one pixel.
    """
    if alone and len(x) == 1 and any(map(needs_two, module.modules())):
        raise UserError(
            f"{type(module).__name__}: of a map of {x.shape[-2]}x{x.shape[-1]} and a batch of 1, the mean of a strip"
            " or grid leaves BatchNorm one number per channel; train on a batch of at least 2, on larger images, or"
            " with grids of more than one cell"
        )
