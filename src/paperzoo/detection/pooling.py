"""Features of regions: RoIAlign (Mask R-CNN, section 3) on the level of a pyramid that fits a region's size."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

PLACES = 14  # regions of less than twice as many places along their side are taken from the finest level
FINEST = 4 * PLACES  # likewise in pixels, where that is of stride 4
ADAPTIVE = -1  # as many samples a bin as it has cells, rounded up


def levels_of(boxes: Tensor, levels: int, finest: float = FINEST) -> Tensor:
    """Level of each box (N, 4), 0 the finest: (N,) int64. FPN, eq. 1, with ``finest`` = 224 / 2 ** (4 - 2)."""
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    return (side / finest + 1e-6).log2().floor().clamp(0, levels - 1).long()


def with_image(boxes: Sequence[Tensor]) -> Tensor:
    """Boxes (P, 4) of each image as (R, 5), the number of the image first."""
    return torch.cat([torch.cat([part.new_full((len(part), 1), i), part], dim=1) for i, part in enumerate(boxes)])


def pool(
    features: Sequence[Tensor],
    boxes: Sequence[Tensor],
    strides: Sequence[int],
    size: int,
    finest: float | None = None,
) -> Tensor:
    """Features of boxes, each from the level of its size.

    Args:
        features: maps (B, C, h, w), finest first.
        boxes: (P, 4) of each image, in its pixels.
        strides: pixels between two places of each map.
        size: bins along each side.
        finest: see ``levels_of``; None: by the stride of the finest level.

    Returns:
        (R, C, size, size), image after image. The mean of bilinear samples, half a pixel taken off (``aligned``), as
        many samples a bin as it has places, rounded up.
    """
    regions = with_image(boxes)
    if len(features) == 1:
        return roi_align(features[0], regions, size, 1 / strides[0], ADAPTIVE, aligned=True)
    levels = levels_of(regions[:, 1:], len(features), finest or PLACES * strides[0])
    order, parts = [], []
    for level, (maps, stride) in enumerate(zip(features, strides, strict=True)):
        rows = (levels == level).nonzero().flatten()
        if len(rows) or not level:  # of no regions at all, too, an empty tensor with a graph
            order.append(rows)
            parts.append(roi_align(maps, regions[rows], size, 1 / stride, ADAPTIVE, aligned=True))
    if len(parts) == 1:
        return parts[0]
    found = torch.cat(parts)
    return torch.empty_like(found).index_copy(0, torch.cat(order), found)
