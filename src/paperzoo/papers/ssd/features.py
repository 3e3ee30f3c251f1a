"""The maps that SSD predicts on (Sec. 2.1 and Fig. 2): those of a trunk, and smaller ones behind it."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.ssd import SSDFeatureExtractorVGG
from torchvision.models.vgg import cfgs, make_layers

from paperzoo.detection import initial
from paperzoo.detection.backbone import Backbone
from paperzoo.errors import UserError

VGG = "vgg16"  # torchvision's, whose last two layers are convolutions here
BLOCKS = 5  # of VGG-16, each ends in a pooling layer


class VGGFeatures(SSDFeatureExtractorVGG):
    """The paper's six maps: conv4_3 (rescaled), fc7, conv8_2 to conv11_2; under torchvision's names.

    Args:
        frozen_stages: blocks of VGG-16 that are not trained, the first ones.

    Raises:
        UserError: there are not as many blocks.
    """

    out_channels = (512, 1024, 512, 256, 256, 256)

    def __init__(self, frozen_stages: int = 0) -> None:
        if not 0 <= frozen_stages <= BLOCKS:
            raise UserError(f"model.frozen_stages={frozen_stages}: must be from 0 to {BLOCKS} for {VGG}")
        layers = make_layers(cfgs["D"])
        initial.he(*(layer for layer in layers if isinstance(layer, nn.Conv2d)))
        ends = [0, *(i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d))]
        layers[: ends[frozen_stages]].requires_grad_(False)
        super().__init__(layers, highres=False)


class TrunkFeatures(Backbone):
    """The last three maps of a network of timm's registry, and one of half their last one's size.

    Args:
        name: in timm's registry; ``options`` are of it, see ``detection.backbone``.
        channels: of the map that is added.
    """

    def __init__(self, name: str, channels: int, **options: Any) -> None:
        super().__init__(name, **options)
        self.extra = nn.Sequential(
            nn.Conv2d(self.channels[-1], channels // 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
        )
        initial.he(self.extra[0], self.extra[2])
        self.out_channels: Sequence[int] = [*self.channels[1:], channels]

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":  # type: ignore[override]
        """Maps by name, the finest first."""
        maps = super().forward(images)[1:]  # that of stride 4 has too many places
        return OrderedDict((str(i), x) for i, x in enumerate([*maps, self.extra(maps[-1])]))


def warped(images: Tensor, image_sizes: Sequence[tuple[int, int]], side: int) -> Tensor:
    """Each image of a padded batch (B, 3, H, W) without its padding, resized to a square: (B, 3, side, side).

    Bilinear; the ratio of an image's sides is not kept (as in the paper's own experiments).
    """
    if all(size == (side, side) for size in image_sizes) and tuple(images.shape[2:]) == (side, side):
        return images
    squares = [
        nn.functional.interpolate(image[None, :, :height, :width], (side, side), mode="bilinear", align_corners=False)
        for image, (height, width) in zip(images, image_sizes, strict=True)
    ]
    return torch.cat(squares)


def ratios_to_square(images: Tensor, image_sizes: Sequence[tuple[int, int]], side: int) -> Tensor:
    """What multiplies boxes in images to give those in their squares: (B, 4)."""
    return images.new_tensor([[side / width, side / height] * 2 for height, width in image_sizes])
