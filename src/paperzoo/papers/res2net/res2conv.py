"""The hierarchical split, for any bottleneck: a 3x3 convolution in s narrow ones, each of which sees the one before.

Gao, Cheng, Zhao, Zhang, Yang, Torr: Res2Net, A New Multi-scale Backbone Architecture, TPAMI 2021.

Shapes: B images, C channels, H x W pixels, s splits of w = C / s channels.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from paperzoo.errors import UserError


class Res2Conv(nn.Module):
    """y_1 = K_1(x_1), y_i = K_i(x_i + y_(i-1)), y_s = x_s (Eq. 1; the authors' code passes the last, not the first).

    Each K is a 3x3 convolution, its normalisation and activation. It stands where a bottleneck has those three.

    Args:
        channels: C, in and out.
        scale: s; 1 is a plain 3x3 convolution.
        stride, dilation, groups: of every K.
        first: in the first block of a stage no split sees another, and the last is averaged over 3x3 pixels, zeros of
            the border included, so that it keeps up with the stride.
        act_layer, norm_layer: layers, called as timm does.

    Raises:
        UserError: the splits are no whole numbers of channels or of groups.
    """

    def __init__(
        self,
        channels: int,
        scale: int = 4,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        *,
        first: bool = False,
        act_layer: Callable[..., nn.Module] = nn.ReLU,
        norm_layer: Callable[..., nn.Module] = nn.BatchNorm2d,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if scale < 1 or channels % scale or channels // scale % groups:
            raise UserError(
                f"Res2Conv with channels={channels}, scale={scale}, groups={groups}: channels must be a multiple of"
                " scale * groups, so that each split has whole groups of channels"
            )
        if stride > 1 and not first:
            raise UserError(f"Res2Conv with stride={stride}: a stride needs first=True, which pools the last split")
        self.width, self.first = channels // scale, first
        place: dict[str, Any] = {
            key: value for key, value in (("device", device), ("dtype", dtype)) if value is not None
        }
        kernels = range(max(1, scale - 1))
        self.convs = nn.ModuleList(
            nn.Conv2d(self.width, self.width, 3, stride, dilation, dilation, groups, bias=False, **place)
            for _ in kernels
        )
        self.bns = nn.ModuleList(norm_layer(self.width, **place) for _ in kernels)
        self.act = act_layer(inplace=True)
        self.pool = nn.AvgPool2d(3, stride, padding=1) if first and scale > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / stride, W / stride), rounded up."""
        splits = x.split(self.width, dim=1)  # s of (B, w, H, W)
        outputs: list[Tensor] = []
        for split, conv, bn in zip(splits, self.convs, self.bns, strict=False):
            # Made dense here, once: a convolution would do it in the forward and again in the backward pass.
            seen = split + outputs[-1] if outputs and not self.first else _dense(split)
            outputs.append(self.act(bn(conv(seen))))
        if len(splits) > 1:
            outputs.append(self.pool(splits[-1]))
        return torch.cat(outputs, dim=1)


def multi_scale(network: nn.Module, scale: int = 4, **layers: Any) -> nn.Module:
    """Put ``Res2Conv`` in the place of the 3x3 convolution of every bottleneck of a network, which is changed.

    A bottleneck is what has ``conv2`` (3x3), ``bn2`` and ``conv3``, as timm's and torchvision's of ResNet, ResNeXt and
    SE-ResNet have; a block with a shortcut convolution counts as the first of its stage.

    Args:
        network: its new layers start from random weights.
        scale: s.
        layers: ``act_layer`` and ``norm_layer`` of the new ones.

    Raises:
        UserError: there is no bottleneck, or its width is no multiple of scale times its groups.
    """
    blocks: list[Any] = [module for module in network.modules() if _is_bottleneck(module)]
    if not blocks:
        raise UserError(
            f"multi_scale: {type(network).__name__} has no bottleneck, a block with a 3x3 conv2, bn2 and conv3"
        )
    # All are made before any is put in, so that a network which cannot be changed is left as it was.
    made = [_instead_of(block.conv2, scale, block, **layers) for block in blocks]
    for block, conv in zip(blocks, made, strict=True):
        block.conv2, block.bn2 = conv, nn.Identity()
        if hasattr(block, "act2"):  # torchvision's has no own: its ReLU leaves what was rectified as it is
            block.act2 = nn.Identity()
    return network


def _instead_of(conv: nn.Conv2d, scale: int, block: Any, **layers: Any) -> Res2Conv:
    stride, dilation = conv.stride[0], conv.dilation[0]
    first = stride > 1 or block.downsample is not None
    place: dict[str, Any] = {"device": conv.weight.device, "dtype": conv.weight.dtype}
    return Res2Conv(conv.in_channels, scale, stride, dilation, conv.groups, first=first, **layers, **place)


def _is_bottleneck(module: Any) -> bool:
    conv = getattr(module, "conv2", None)
    wide = isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3) and conv.in_channels == conv.out_channels
    return wide and all(hasattr(module, name) for name in ("bn2", "conv3", "downsample"))


def _dense(split: Tensor) -> Tensor:
    """A slice of the channels, in the memory format of the whole."""
    return split.contiguous(memory_format=torch.channels_last) if split.stride(1) == 1 else split.contiguous()
