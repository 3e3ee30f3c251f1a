"""Boxes: intersection over union, and the code by which a network moves them (R-CNN, appendix C)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST_CHANGE = abs(math.log(16 / 1000))  # of the logarithm of a width, either way
TINY = 1e-6  # the smallest union: boxes without area overlap nothing
UNIT = (1.0, 1.0, 1.0, 1.0)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of (N, 4) with (M, 4): (N, M). Boxes without area have 0."""
    corner = torch.max(a[:, None, :2], b[:, :2])  # (N, M, 2)
    sides = (torch.min(a[:, None, 2:], b[:, 2:]) - corner).clamp(min=0)
    overlap = sides[..., 0] * sides[..., 1]
    union = area(a)[:, None] + area(b) - overlap
    return overlap / union.clamp(min=TINY)


def area(boxes: Tensor) -> Tensor:
    """(..., 4) -> (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def encode(boxes: Tensor, targets: Tensor, stds: Sequence[float] = UNIT) -> Tensor:
    """What moves ``boxes`` (N, 4) to ``targets`` (N, 4): the centre's shift in sides, logarithms of the sides' ratios.

    Divided by ``stds``, the usual size of each of the four numbers: (N, 4).
    """
    centre, sides = _centred(boxes)
    target_centre, target_sides = _centred(targets)
    deltas = torch.cat([(target_centre - centre) / sides, torch.log(target_sides / sides)], dim=-1)
    return deltas / deltas.new_tensor(stds)


def decode(boxes: Tensor, deltas: Tensor, stds: Sequence[float] = UNIT) -> Tensor:
    """The boxes (N, 4) that ``deltas`` (N, 4 K) move ``boxes`` (N, 4) to, class after class where K > 1: (N, 4 K).

    Sides are multiplied by at most 62.5 and divided by at most as much.
    """
    deltas = deltas.to(boxes.dtype)
    moves = deltas.reshape(len(deltas), deltas.shape[1] // 4, 4) * deltas.new_tensor(stds)  # (N, K, 4)
    centre, sides = (part[:, None] for part in _centred(boxes))
    centre = centre + moves[..., :2] * sides
    half = sides * moves[..., 2:].clamp(-LARGEST_CHANGE, LARGEST_CHANGE).exp() / 2
    return torch.cat([centre - half, centre + half], dim=-1).reshape(deltas.shape)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (N, 4 K) with corners inside an image of (height, width): x in [0, width], y in [0, height]."""
    height, width = float(size[0]), float(size[1])
    corners = boxes.reshape(-1, 2)
    inside = torch.stack([corners[:, 0].clamp(0, width), corners[:, 1].clamp(0, height)], dim=-1)
    return inside.reshape(boxes.shape)


def _centred(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (N, 2) and sides (N, 2)."""
    first, last = boxes[:, :2], boxes[:, 2:]
    return (first + last) / 2, last - first
