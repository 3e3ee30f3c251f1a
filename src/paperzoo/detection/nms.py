"""Non-maximum suppression: of boxes that overlap, the best is kept."""

import torch
from torch import Tensor
from torchvision.ops import nms

TOGETHER = 1_000  # from as many boxes on, groups are suppressed one by one: time grows with the square of the boxes
TOGETHER_ON_GPU = 10_000  # where a call costs more


def grouped_nms(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Suppress boxes that overlap a better one of their own group by more than ``threshold``.

    Groups are moved apart by more than the largest coordinate and suppressed in one call; many boxes group by group,
    with the same result: they are moved apart there, too, since that rounds their sides.

    Args:
        boxes: (N, 4).
        scores: (N,).
        groups: (N,) integers: classes or levels.
        threshold: IoU.

    Returns:
        Indices of what is left, best first.
    """
    if not len(boxes):
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    apart = boxes + (groups.to(boxes) * (boxes.max() + 1))[:, None]
    if len(boxes) < (TOGETHER if boxes.device.type == "cpu" else TOGETHER_ON_GPU):
        return nms(apart, scores, threshold)
    kept = []
    for group in groups.unique():
        rows = (groups == group).nonzero().flatten()
        kept.append(rows[nms(apart[rows], scores[rows], threshold)])
    left = torch.cat(kept).sort().values
    return left[scores[left].sort(descending=True, stable=True).indices]


def multiclass_nms(
    boxes: Tensor, scores: Tensor, score_threshold: float, nms_threshold: float, most: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Detections of an image: every box with every class that scores more than ``score_threshold``.

    Args:
        boxes: (R, 4), or (R, 4 K) with a box for each class.
        scores: (R, K), without background.
        score_threshold: strict.
        nms_threshold: IoU within a class, see ``grouped_nms``.
        most: how many are kept at most.

    Returns:
        Boxes (D, 4), scores (D,), labels (D,) and the row (D,) of each, best first.
    """
    rows, labels = (scores > score_threshold).nonzero(as_tuple=True)
    own = boxes.reshape(len(boxes), boxes.shape[1] // 4, 4)
    chosen = own[rows, labels if own.shape[1] > 1 else torch.zeros_like(labels)]
    chosen_scores = scores[rows, labels]
    left = grouped_nms(chosen, chosen_scores, labels, nms_threshold)[:most]
    return chosen[left], chosen_scores[left], labels[left], rows[left]
