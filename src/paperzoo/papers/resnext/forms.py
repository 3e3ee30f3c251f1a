"""The block of ResNeXt in the three forms of Fig. 3, which compute the same.

Xie, Girshick, Dollar, Tu, He: Aggregated Residual Transformations for Deep Neural Networks, CVPR 2017.

(a) y = x + sum_i T_i(x), C paths of 1x1, 3x3, 1x1; (b) the paths' 3x3 are concatenated before one 1x1;
(c) one grouped 3x3: timm's ``Bottleneck``, the form that the paper trains and this room's networks take.

Shapes: B images, H x W pixels, C paths of d channels.
"""

import copy
from typing import Any

import torch
from timm.models.resnet import Bottleneck
from torch import Tensor, nn

from paperzoo.errors import UserError

FORMS = ("a", "b", "c")


class Path(nn.Sequential):
    """The part of T_i that the forms (a) and (b) share: 1x1, 3x3, each with its normalisation and activation."""

    def __init__(self, grouped: Bottleneck, index: int) -> None:
        conv1, conv2 = grouped.conv1, grouped.conv2
        wide = slice(index * conv2.weight.shape[1], (index + 1) * conv2.weight.shape[1])  # the path's d channels
        super().__init__(
            _part(conv1, conv1.weight[wide]), _norm_part(grouped.bn1, wide), type(grouped.act1)(inplace=True),
            _part(conv2, conv2.weight[wide]), _norm_part(grouped.bn2, wide), type(grouped.act2)(inplace=True),
        )  # fmt: skip


class Aggregated(nn.Module):
    """Form (a) or (b), with the weights of a block of form (c), which are copied.

    The last normalisation follows the sum of the paths (the paper, Sec. 4), else the forms would differ.

    Args:
        grouped: form (c), with batch normalisation.
        form: ``a`` or ``b``.

    Raises:
        UserError: another form, or a block with parts that the paper's has not.
    """

    def __init__(self, grouped: Bottleneck, form: str) -> None:
        super().__init__()
        if form not in ("a", "b"):
            raise UserError(f"form={form}: must be a or b; c is the grouped convolution itself")
        _demand_plain(grouped)
        cardinality, width = grouped.conv2.groups, grouped.conv2.weight.shape[1]
        self.paths = nn.ModuleList(Path(grouped, index) for index in range(cardinality))
        parts = grouped.conv3.weight.split(width, dim=1) if form == "a" else [grouped.conv3.weight]
        self.merge = nn.ModuleList(_part(grouped.conv3, part) for part in parts)  # C of (4n, d), or one of (4n, C d)
        self.bn3 = _norm_part(grouped.bn3, slice(None))
        self.act3 = type(grouped.act3)(inplace=True)
        self.downsample = nn.Identity() if grouped.downsample is None else copy.deepcopy(grouped.downsample)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inplanes, H, W) -> (B, planes * 4, H / stride, W / stride)."""
        paths = [path(x) for path in self.paths]  # C of (B, d, H / stride, W / stride)
        if len(self.merge) == 1:
            paths = [torch.cat(paths, dim=1)]
        y = self.merge[0](paths[0])
        for merge, path in zip(self.merge[1:], paths[1:], strict=True):
            y = y + merge(path)
        y = self.bn3(y)
        y += self.downsample(x)
        return self.act3(y)


def in_form(grouped: Bottleneck, form: str) -> nn.Module:
    """A block of form (c) in another form, or itself.

    Raises:
        UserError: there is no such form.
    """
    if form not in FORMS:
        raise UserError(f"form={form}: must be one of {', '.join(FORMS)}, the forms of the paper's Fig. 3")
    return grouped if form == "c" else Aggregated(grouped, form)


def _part(conv: nn.Conv2d, weight: Tensor) -> nn.Conv2d:
    """A convolution like the given one, without groups, of some of its kernels."""
    chans_out, chans_in = weight.shape[:2]
    same: dict[str, Any] = {name: getattr(conv, name) for name in ("kernel_size", "stride", "padding", "dilation")}
    part = nn.Conv2d(chans_in, chans_out, **same, bias=False, device=weight.device, dtype=weight.dtype)
    part.weight.data.copy_(weight.data)
    return part


def _norm_part(norm: nn.Module, channels: slice) -> nn.BatchNorm2d:
    """Batch normalisation of some of the channels: it treats each alone."""
    assert isinstance(norm, nn.BatchNorm2d)
    part = nn.BatchNorm2d(len(norm.weight[channels]), norm.eps, norm.momentum).to(norm.weight)
    part.load_state_dict({k: v[channels] if v.ndim else v for k, v in norm.state_dict().items()})
    return part


def _demand_plain(grouped: Bottleneck) -> None:
    if not all(isinstance(norm, nn.BatchNorm2d) for norm in (grouped.bn1, grouped.bn2, grouped.bn3)):
        raise UserError("the forms a and b need batch normalisation, which treats each channel alone: swap it later")
    extras = (grouped.se, grouped.drop_path, grouped.drop_block, grouped.aa)
    if not all(extra is None or isinstance(extra, nn.Identity) for extra in extras):
        raise UserError("the forms a and b are the paper's block: no attention, stochastic depth or anti-aliasing")
