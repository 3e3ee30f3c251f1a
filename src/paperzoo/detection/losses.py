"""Losses of regions, each a sum over what was sampled divided by a count of the whole batch.

On several ranks the batch is that of all of them: ranks of few objects weigh less, so that two ranks train as one with
the joint batch does. (mmdetection divides by a rank's own counts: its ranks of few objects weigh as much as others.)
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, l1_loss, smooth_l1_loss

from paperzoo.distributed import ranks, sum_over_ranks

EPSILON = float(torch.finfo(torch.float32).eps)  # added to every count, so that none is zero


def mean_over(total: Tensor, count: int) -> Tensor:
    """A sum divided by a count of regions that may be zero, see ``of_all_ranks``."""
    return of_all_ranks(total / (count + EPSILON), count)


def of_all_ranks(mean: Tensor, count: int | Tensor) -> Tensor:
    """A rank's mean over ``count``, weighted so that the mean over the ranks is the mean over what all of them have.

    Every rank must call it, as often as the others.
    """
    if ranks() == 1:
        return mean
    (total,) = sum_over_ranks([float(count)], mean.device)
    return mean * (float(count) * ranks() / max(total, 1.0))


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of (R, K + 1) with (R,), a mean over the regions; of none it is zero."""
    return mean_over(cross_entropy(logits, labels, reduction="sum"), len(labels))


def objectness_loss(logits: Tensor, targets: Tensor, count: int) -> Tensor:
    """Binary cross entropy of (N,) with (N,) in [0, 1], summed and divided by ``count``."""
    return mean_over(binary_cross_entropy_with_logits(logits, targets, reduction="sum"), count)


def box_loss(deltas: Tensor, targets: Tensor, count: int, beta: float) -> Tensor:
    """Smooth L1 of (P, 4) with (P, 4), summed and divided by ``count``: quadratic below ``beta``; with 0 it is L1."""
    if beta == 0:
        return mean_over(l1_loss(deltas, targets, reduction="sum"), count)
    return mean_over(smooth_l1_loss(deltas, targets, reduction="sum", beta=beta), count)


def mask_loss(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Binary cross entropy of each object's own class's mask, a mean over objects and cells (Mask R-CNN, section 3).

    Args:
        logits: (P, K, h, w).
        labels: (P,).
        targets: (P, h, w) of 0 and 1.
    """
    own = logits[torch.arange(len(labels), device=labels.device), labels]
    # of no objects zero, with a graph: all ranks reduce gradients of the same parameters
    mean = binary_cross_entropy_with_logits(own, targets) if len(labels) else own.sum()
    return of_all_ranks(mean, len(labels))
