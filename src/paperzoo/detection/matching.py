"""Matching: which object each box is to find, if any."""

import torch
from torch import Tensor

NOTHING, IGNORED = -1, -2  # a match that is background, and one that is in no loss


def match(
    overlaps: Tensor, positive: float, negative: float, minimum: float | None = None, low_quality: bool = False
) -> Tensor:
    """Match boxes with the objects that they overlap most.

    Args:
        overlaps: (G, N), IoU of G objects with N boxes.
        positive: from this IoU on (inclusive), a box matches the object it overlaps most, the first of equals.
        negative: below this IoU, a box is background. Between the two it is ignored.
        minimum: of ``low_quality``; None is ``positive``.
        low_quality: every object whose best IoU is at least ``minimum`` also takes all boxes of just that IoU, whatever
            they matched before; of two objects that want a box, the later takes it.

    Returns:
        (N,) int64: the object's index, ``NOTHING`` or ``IGNORED``.
    """
    objects, boxes = overlaps.shape
    if not objects or not boxes:
        return torch.full((boxes,), NOTHING, dtype=torch.int64, device=overlaps.device)
    best, which = overlaps.max(dim=0)
    matches = torch.where(best < negative, NOTHING, IGNORED)
    matches = torch.where(best >= positive, which, matches)
    if low_quality:
        own_best = overlaps.max(dim=1).values
        floor = positive if minimum is None else minimum
        takes = (overlaps == own_best[:, None]) & (own_best >= floor)[:, None]  # (G, N)
        taken = takes.any(dim=0).nonzero().flatten()  # few of the boxes
        matches[taken] = objects - 1 - takes[:, taken].flip(0).int().argmax(dim=0)
    return matches
