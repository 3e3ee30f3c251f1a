"""RandAugment (Cubuk et al., 2020), colours and erased rectangles (Zhong et al., 2020), as torchvision has them."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from paperzoo.data.images.module import ImageData
from paperzoo.data.interface import Batch

BITS = 24  # of a random number in float32
AGAIN = 0x9E3779B9  # so that erasing draws other numbers than the changes before it


class AugmentedImages(ImageData):
    """Training images are changed one by one; the numbers that an image draws follow from (seed, epoch, image).

    The changes of the pixels come before cropping and flipping, erasing comes after the normalisation, where 0 is the
    mean colour.
    """

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """See ``ImageData``; what is evaluated stays as it is."""
        images, labels, uniform, index = batch
        if uniform is None:
            return super().on_after_batch_transfer(batch, dataloader_idx)
        seeds = seeds_of(uniform)
        if self.changes is not None:
            images = changed(images, seeds, self.changes)
        made = super().on_after_batch_transfer((images, labels, uniform, index), dataloader_idx)
        if self.config.policy.erase:
            erase = v2.RandomErasing(p=self.config.policy.erase)
            made = made._replace(inputs=changed(made.inputs, [seed ^ AGAIN for seed in seeds], erase))
        return made

    @cached_property
    def changes(self) -> Any:
        """Of the pixels, or None."""
        policy = self.config.policy
        parts: list[Any] = []
        if policy.rand_augment is not None:
            parts.append(v2.RandAugment(num_ops=policy.operations, magnitude=policy.rand_augment))
        colours = (policy.brightness, policy.contrast, policy.saturation, policy.hue)
        if any(colours):
            parts.append(v2.ColorJitter(*colours))
        return v2.Compose(parts) if parts else None


def seeds_of(uniform: Tensor) -> list[int]:
    """A seed for each image, from the numbers (B, 3) in [0, 1) that it has drawn for its crop and its flip."""
    whole = (uniform.double() * 2**BITS).long()
    return (whole[:, 0] * 2**BITS + whole[:, 1]).tolist()


def changed(images: Tensor, seeds: list[int], transform: Any) -> Tensor:
    """Images (B, C, H, W), each by a transform that draws from the image's own seed; torch's numbers stay as they are.

    torchvision draws all numbers on the CPU, wherever the image is.
    """
    before = torch.get_rng_state()
    try:
        made = []
        for image, seed in zip(images, seeds, strict=True):
            torch.default_generator.manual_seed(seed)
            made.append(transform(image))
    finally:
        torch.set_rng_state(before)
    return torch.stack(made) if made else images
