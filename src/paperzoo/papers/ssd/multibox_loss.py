"""The loss of SSD (Sec. 2.2): classes of positives and of hard negatives, places of positives."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, smooth_l1_loss

from paperzoo.detection.losses import of_all_ranks
from paperzoo.papers.ssd.hard_negatives import hard_negatives


def multibox_loss(
    logits: Tensor, deltas: Tensor, classes: Tensor, codes: Tensor, negatives: float = 3
) -> dict[str, Tensor]:
    """Eq. 1 with α = 1: ``(L_conf + L_loc) / N``, N the positives of the batch on all ranks; without any it is zero.

    Args:
        logits: (B, A, K + 1), the background first.
        deltas: (B, A, 4).
        classes: (B, A) int64, 0 is background.
        codes: (P, 4), what the deltas of the P positives are to be, in the order of ``classes``.
        negatives: that are trained on for each positive of an image, those of largest loss.

    Returns:
        ``classification`` and ``box``, scalars.
    """
    positives = classes > 0
    entropy = cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none").view_as(classes)
    trained = positives | hard_negatives(entropy, positives, negatives)
    found = positives.sum()
    count = found.clamp(min=1)  # N
    return {
        "classification": of_all_ranks(torch.where(trained, entropy, 0).sum() / count, found),
        "box": of_all_ranks(smooth_l1_loss(deltas[positives], codes, reduction="sum") / count, found),
    }
