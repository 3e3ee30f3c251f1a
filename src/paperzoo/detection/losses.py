"""Losses of regions, each a sum over what was sampled divided by a count of the whole batch."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, l1_loss, smooth_l1_loss

EPSILON = float(torch.finfo(torch.float32).eps)  # added to every count, so that none is zero


def mean_over(total: Tensor, count: int) -> Tensor:
    """A sum divided by a count of regions that may be zero."""
    return total / (count + EPSILON)


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
    if not len(labels):
        return own.sum()  # zero, with a graph: all ranks reduce gradients of the same parameters
    return binary_cross_entropy_with_logits(own, targets)
