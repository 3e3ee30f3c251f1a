"""Resizing and flipping of an image together with its boxes, masks and map."""

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

Target = dict[str, Tensor]


def scaled_size(size: tuple[int, int], shorter: int | None, longer: int | None) -> tuple[int, int]:
    """(height, width) with the shorter side at ``shorter``, but the longer one not above ``longer``; rounded."""
    scale = shorter / min(size) if shorter else 1.0
    if longer:
        scale = min(scale, longer / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    return height, width


def resize(image: Tensor, target: Target, size: tuple[int, int]) -> tuple[Tensor, Target]:
    """An image (3, H, W) and its target at (height, width): bilinear, masks and maps by the nearest pixel."""
    old = (image.shape[1], image.shape[2])
    if old == size:
        return image, target
    new = dict(target)
    ratio = torch.tensor([size[1] / old[1], size[0] / old[0]] * 2)
    new["boxes"] = target["boxes"] * ratio
    for name in ("masks", "semantic"):
        if name in target:
            planes = target[name].view(-1, *old).to(torch.uint8)
            resized = F.resize(planes, list(size), InterpolationMode.NEAREST_EXACT) if len(planes) else planes
            shape = (*target[name].shape[:-2], *size)
            new[name] = resized.reshape(shape).to(target[name].dtype)
    return F.resize(image, list(size), InterpolationMode.BILINEAR, antialias=True), new


def flip(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Mirrored left to right."""
    width = image.shape[2]
    x1, y1, x2, y2 = target["boxes"].unbind(-1)
    new = {**target, "boxes": torch.stack([width - x2, y1, width - x1, y2], dim=-1)}
    new |= {name: target[name].flip(-1) for name in ("masks", "semantic") if name in target}
    return image.flip(-1), new


def padded(images: list[Tensor], divisor: int) -> Tensor:
    """Images (3, h, w) as (B, 3, H, W): zeros at the right and at the bottom, sides multiples of ``divisor``."""
    height, width = (-(-max(image.shape[d] for image in images) // divisor) * divisor for d in (1, 2))
    batch = images[0].new_zeros(len(images), 3, height, width)
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return batch
