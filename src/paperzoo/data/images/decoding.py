"""One image: from bytes, a file or an array to uint8 pixels."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

Raw = bytes | Path | np.ndarray
BROKEN = (OSError, SyntaxError, ValueError, TypeError, struct.error, Image.DecompressionBombError)  # what PIL raises


class CorruptImage(Exception):
    """An image that cannot be decoded."""

    advice = "remove it"


class MissingImage(CorruptImage):
    """An image whose file is gone since the data was listed."""

    advice = "restore it"


def open_image(raw: Raw) -> Image.Image:
    """Decode an image, turned as its EXIF tag says.

    Raises:
        CorruptImage: it cannot be decoded; the message says why.
    """
    try:
        if isinstance(raw, np.ndarray):
            return Image.fromarray(raw)
        image: Image.Image = Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw)
        image.load()
        return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise MissingImage("there is no such file any more") from None
    except BROKEN as error:
        reason = str(error) or type(error).__name__
        raise CorruptImage("not an image" if "cannot identify" in reason else reason.splitlines()[0]) from None


def channels(image: Image.Image) -> int:
    """1 for grey images, 3 for all others."""
    return 1 if image.mode in ("1", "L", "LA") or image.mode.startswith("I") or image.mode == "F" else 3


def channels_of_header(raw: Raw) -> int:
    """Likewise without decoding; 1 for what is no image, which is found out elsewhere."""
    if isinstance(raw, np.ndarray):
        return 1 if raw.ndim == 2 else 3
    try:
        with Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw) as image:
            return channels(image)
    except BROKEN:
        return 1


def to_pixels(image: Image.Image, chans: int, size: int | None) -> np.ndarray:
    """Pixels (C, H, W) uint8; with ``size``, the shorter side resized to it and the centre cropped to a square."""
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_to_eight_bits(np.asarray(image), image.mode))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    image = image.convert("L" if chans == 1 else "RGB")
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    pixels: Any = np.asarray(image, dtype=np.uint8)
    return pixels[None].copy() if chans == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))  # writable, for torch


def _to_eight_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Floats of [0, 1] are scaled; of whole numbers above 255 the upper eight of 16 bits are kept."""
    top = values.max(initial=0)
    if mode == "F" and top <= 1:
        return (values * 255).round().clip(0, 255).astype(np.uint8)
    if mode.startswith("I;16") or top > 255:
        return (values.astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
    return values.clip(0, 255).astype(np.uint8)
