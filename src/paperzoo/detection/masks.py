"""Masks of objects: what a mask head is trained on, how its output is put into the image, run-length codes."""

from typing import Any

import numpy as np
import torch
from faster_coco_eval.core import mask as coco  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.ops import roi_align

from paperzoo.detection.boxes import clip
from paperzoo.detection.pooling import ADAPTIVE

HALF = 0.5


def mask_targets(masks: Tensor, boxes: Tensor, truth: Tensor, size: int) -> Tensor:
    """Masks cut out by boxes: binary (P, size, size), of the boxes' type.

    Args:
        masks: (G, H, W) bool.
        boxes: (P, 4) in pixels of the masks; what lies outside is cut off.
        truth: (P,) which mask belongs to each box.
        size: cells along each side; a cell is 1 where the mean over it is at least one half.
    """
    if not len(boxes):
        return boxes.new_zeros(0, size, size)
    regions = torch.cat([truth[:, None].to(boxes.dtype), clip(boxes, masks.shape[1:])], dim=1)  # type: ignore[arg-type]
    covered = roi_align(masks[:, None].to(boxes.dtype), regions, size, 1.0, ADAPTIVE, aligned=True)
    return (covered[:, 0] >= HALF).to(boxes.dtype)


def paste(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (D, h, w) of probabilities in their boxes (D, 4) in an image of (height, width): (D, height, width) bool.

    Bilinear between the middles of the mask's cells, at the middles of pixels; outside of the mask is 0. A pixel is
    the object's from one half on.
    """
    height, width = size
    pasted = torch.zeros(len(masks), height, width, dtype=torch.bool, device=masks.device)
    wide = masks.to(boxes.dtype)  # under autocast that of the masks is too coarse for pixels
    for mask, box, image in zip(wide, boxes, pasted, strict=True):
        (left, right), (top, bottom) = _span(box[0], box[2], width), _span(box[1], box[3], height)
        x, y = _places(left, right, box[0], box[2]), _places(top, bottom, box[1], box[3])
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)  # (bottom - top, right - left, 2)
        if grid.numel():
            found = grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]
            image[top:bottom, left:right] = found >= HALF
    return pasted


def _span(first: Tensor, last: Tensor, length: int) -> tuple[int, int]:
    """The pixels that a box can cover along one side; a box without a side covers none."""
    start, stop = int(first.floor().clamp(0, length)), int(last.ceil().clamp(0, length))
    return (start, stop) if last > first else (0, 0)


def _places(start: int, stop: int, first: Tensor, last: Tensor) -> Tensor:
    """Where the middles of pixels are in a box: from -1 at its first side to 1 at its last."""
    middles = torch.arange(start, stop, device=first.device, dtype=first.dtype) + HALF
    return (middles - first) / (last - first) * 2 - 1


def encode_rle(masks: Tensor | np.ndarray) -> list[dict[str, Any]]:
    """COCO's compressed run-length code of each of masks (N, H, W) bool: ``size`` [H, W] and ``counts`` (bytes)."""
    plain = masks.cpu().numpy() if isinstance(masks, Tensor) else masks
    if not len(plain):
        return []
    return coco.encode(np.asfortranarray(plain.astype(np.uint8).transpose(1, 2, 0)))


def decode_rle(codes: list[dict[str, Any]], size: tuple[int, int]) -> np.ndarray:
    """Masks (N, H, W) bool of compressed run-length codes of images of (height, width)."""
    if not codes:
        return np.zeros((0, *size), bool)
    return np.asarray(coco.decode(codes)).transpose(2, 0, 1).astype(bool)
