"""Random changes of training images, drawn per image and applied to whole batches on the device.

torchvision's transforms, given a batch, draw one set of numbers for all of it; here every image has its own, and
the distribution is that of ``v2.RandomCrop(size, padding)`` and ``v2.RandomHorizontalFlip(p)`` on single images.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from paperzoo.data.images.schema import Augment
from paperzoo.randomness import generator

DRAWS = 3  # uniform numbers per image: row, column, flip


def draws(size: int, *words: int | str) -> Tensor:
    """A table (N, 3) of uniform numbers in [0, 1): row i belongs to image i."""
    return torch.rand(size, DRAWS, generator=generator("augment", *words))


def crop_and_flip(images: Tensor, uniform: Tensor, augment: Augment) -> Tensor:
    """Pad by ``crop_padding``, crop at a random place, flip with probability ``flip``.

    Args:
        images: (B, C, H, W), any type.
        uniform: (B, 3) in [0, 1).
        augment: what to do.

    Returns:
        (B, C, H, W).
    """
    padding = augment.crop_padding
    if padding:
        height, width = images.shape[-2:]
        corner = (uniform[:, :2] * (2 * padding + 1)).long()  # (B, 2), uniform over 0 .. 2 * padding
        windows = F.pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # (B, C, P, P, H, W), a view
        images = windows[torch.arange(len(images), device=images.device), :, corner[:, 0], corner[:, 1]]
    if augment.flip:
        flipped = (uniform[:, 2] < augment.flip)[:, None, None, None]
        images = torch.where(flipped, images.flip(-1), images)
    return images


class Normalise:
    """uint8 pixels to floats with the given mean and standard deviation per channel (of pixels in [0, 1]).

    Equals torchvision's ``to_dtype(scale=True)`` and ``normalize`` in two passes over the batch instead of four, with
    its constants kept on the device.
    """

    def __init__(self, mean: list[float], std: list[float], dtype: torch.dtype = torch.float32) -> None:
        self.shift = torch.tensor(mean, dtype=dtype).view(-1, 1, 1) / torch.tensor(std, dtype=dtype).view(-1, 1, 1)
        self.scale = 1 / (255 * torch.tensor(std, dtype=dtype).view(-1, 1, 1))

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> float."""
        if self.scale.device != images.device:
            self.scale, self.shift = self.scale.to(images.device), self.shift.to(images.device)
        return torch.mul(images, self.scale).sub_(self.shift)
