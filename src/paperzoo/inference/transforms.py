"""From an image to what a network takes, as the evaluation of its run does it."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from paperzoo.data.detection.transforms import padded, resize, scaled_size
from paperzoo.data.images.augment import Normalise
from paperzoo.data.images.decoding import Raw, open_image, to_pixels

Picture = Raw | str | Image.Image  # an array is (H, W) or (H, W, 3) uint8


def opened(image: Picture) -> Image.Image:
    """Decode an image, turned as its EXIF tag says.

    Raises:
        CorruptImage: it cannot be decoded; the message says why.
    """
    if isinstance(image, Image.Image):
        return ImageOps.exif_transpose(image)
    return open_image(Path(image) if isinstance(image, str) else image)


class ImageTransform:
    """The shorter side resized to ``size``, the centre cropped to a square, normalised.

    Args:
        chans: of the network's images; with 1, colours become grey.
        size: pixels along each side.
        mean, std: per channel, of pixels in [0, 1].
        dtype: of the network's weights.
    """

    def __init__(
        self, chans: int, size: int, mean: list[float], std: list[float], dtype: torch.dtype = torch.float32
    ) -> None:
        self.chans, self.size, self.mean, self.std = chans, size, list(mean), list(std)
        self.dtype = dtype
        self._normalise = Normalise(self.mean, self.std, dtype)

    def pixels(self, image: Picture) -> Tensor:
        """(C, size, size) uint8."""
        return torch.from_numpy(to_pixels(opened(image), self.chans, self.size))

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 (..., C, H, W) -> float."""
        return self._normalise(pixels)

    def __call__(self, image: Picture) -> Tensor:
        """An image (path, bytes, PIL image or array) -> (C, size, size) float."""
        return self.normalise(self.pixels(image))

    def describe(self) -> dict[str, Any]:
        """Plain data, for files that are used elsewhere."""
        resize = {"resize": "shorter side, bilinear", "crop": "centre", "size": self.size, "channels": self.chans}
        return {**resize, "mean": self.mean, "std": self.std}


class DetectionTransform:
    """Resized in proportion and normalised.

    Args:
        shorter: pixels of the shorter side; None leaves the size.
        longer: most pixels of the longer side.
        divisor: sides of a batch are multiples of it.
        mean, std: per channel, of pixels in [0, 1].
        dtype: of the network's weights.
    """

    def __init__(
        self,
        shorter: int | None,
        longer: int | None,
        divisor: int,
        mean: list[float],
        std: list[float],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.shorter, self.longer, self.divisor = shorter, longer, divisor
        self.mean, self.std, self.dtype = list(mean), list(std), dtype

    def pixels(self, image: Picture) -> Tensor:
        """(3, h, w) uint8 at the network's size."""
        stored = torch.from_numpy(to_pixels(opened(image), 3, None))
        return self.resized(stored)

    def resized(self, stored: Tensor) -> Tensor:
        """An image (3, H, W) uint8 at the network's size."""
        size = scaled_size((stored.shape[1], stored.shape[2]), self.shorter, self.longer)
        return resize(stored, {"boxes": torch.zeros(0, 4)}, size)[0]

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 (..., 3, h, w) -> float."""
        mean, std = (
            torch.tensor(v, dtype=self.dtype, device=pixels.device)[:, None, None] for v in (self.mean, self.std)
        )
        return (pixels.to(self.dtype) / 255 - mean) / std

    def batch(self, images: list[Tensor]) -> Tensor:
        """Normalised images (3, h, w) in one batch, zeros at the right and at the bottom."""
        return padded(images, self.divisor)

    def __call__(self, image: Picture) -> Tensor:
        """An image (path, bytes, PIL image or array) -> (3, h, w) float."""
        return self.normalise(self.pixels(image))

    def describe(self) -> dict[str, Any]:
        """Plain data, for files that are used elsewhere."""
        sizes = {"shorter": self.shorter, "longer": self.longer, "divisor": self.divisor}
        return {**sizes, "mean": self.mean, "std": self.std}


def transform_of(task: str, info: dict[str, Any], data: dict[str, Any], dtype: torch.dtype) -> Any:
    """The preparation of a task's images, or None where it takes none.

    Args:
        task: the task's kind.
        info: what the data says of itself.
        data: the run's data group.
        dtype: of the network's weights.
    """
    if task == "detection":
        shorter = max(data["shorter"]) if data.get("shorter") else None
        return DetectionTransform(shorter, data.get("longer"), data.get("divisor", 1), info["mean"], info["std"], dtype)
    if "image_size" in info:
        return ImageTransform(info["in_chans"], info["image_size"], info["mean"], info["std"], dtype)
    return None
