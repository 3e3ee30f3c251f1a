"""Regions of an image: where they are, and the pixels that the network sees of each (R-CNN, Sec. 2.1, appendix A)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align


def windows(
    size: tuple[int, int], sides: Sequence[float], ratios: Sequence[float], step: float, like: Tensor
) -> Tensor:
    """Sliding windows over an image, each inside of it: (N, 4), in the type and on the device of ``like``.

    Args:
        size: (height, width) of the image.
        sides: roots of the windows' areas in pixels.
        ratios: height / width.
        step: the most that neighbours of one shape are apart, in parts of their own width and height.

    A shape wider or higher than the image is cut to its width or height.
    """
    found = []
    for side in sides:
        for ratio in ratios:
            height, width = (min(a, b) for a, b in zip((side * ratio**0.5, side / ratio**0.5), size, strict=True))
            y, x = (_places(room, own, step) for room, own in zip(size, (height, width), strict=True))
            found += [[left, top, left + width, top + height] for top in y for left in x]
    return like.new_tensor(found).reshape(-1, 4)


def _places(room: float, own: float, step: float) -> list[float]:
    """Where windows begin along one axis, evenly from one edge to the other."""
    gaps = math.ceil((room - own) / (step * own) - 1e-9)
    return [(room - own) * i / gaps for i in range(gaps + 1)] if gaps else [(room - own) / 2]


def warped(images: Tensor, regions: Sequence[Tensor], crop: int, context: int) -> Tensor:
    """The pixels of regions, each resized to a square whatever its shape.

    Args:
        images: (B, 3, H, W), normalised.
        regions: (P, 4) of each image.
        crop: side of the square in pixels.
        context: pixels along each side of the square that show what is around the region. Beyond the image they are
            0, the mean of normalised pixels.

    Returns:
        (R, 3, crop, crop), image after image.
    """
    grown = []
    for own in regions:
        centre, half = (own[:, :2] + own[:, 2:]) / 2, (own[:, 2:] - own[:, :2]) / 2
        half = half * crop / (crop - 2 * context)
        grown.append(torch.cat([centre - half, centre + half], dim=1))
    return roi_align(images, grown, crop, sampling_ratio=2, aligned=True)
