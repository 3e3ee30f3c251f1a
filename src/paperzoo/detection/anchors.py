"""Anchors: boxes of fixed sizes and shapes at every place of every feature map (Faster R-CNN, section 3.1.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor

RATIOS = (0.5, 1.0, 2.0)  # height / width


def base_anchors(side: float, ratios: Sequence[float] = RATIOS, dtype: torch.dtype = torch.float32) -> Tensor:
    """Anchors of area ``side`` squared around (0, 0): (A, 4), one a ratio of height to width. Not rounded."""
    root = torch.tensor(ratios, dtype=dtype).sqrt()
    half = torch.stack([side / root, side * root], dim=-1) / 2
    return torch.cat([-half, half], dim=-1)


def grid_anchors(base: Tensor, shape: tuple[int, int], stride: int) -> Tensor:
    """Base anchors (A, 4) at every place of a map of (h, w): (h * w * A, 4), rows first, the anchors of a place last.

    A place (x, y) is the pixel (x * stride, y * stride).
    """
    rows, columns = (torch.arange(n, device=base.device, dtype=base.dtype) * stride for n in shape)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    places = torch.stack([x, y, x, y], dim=-1)  # (h, w, 4)
    return (places[:, :, None] + base).reshape(-1, 4)


def inside(anchors: Tensor, size: tuple[int, int], border: float) -> Tensor:
    """Which anchors (N, 4) reach less than ``border`` pixels over the edge of an image of (height, width): (N,) bool.

    With 0: corners at 0 are inside, corners at the width or height are not. A negative border takes all.
    """
    if border < 0:
        return torch.ones(len(anchors), dtype=torch.bool, device=anchors.device)
    height, width = size
    x1, y1, x2, y2 = anchors.unbind(-1)
    return (x1 >= -border) & (y1 >= -border) & (x2 < width + border) & (y2 < height + border)
