"""Hard negative mining: of the many negatives of an image, only those with the largest losses train.

Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg: SSD: Single Shot MultiBox Detector, ECCV 2016, Sec. 2.2.
"""

import math

import torch
from torch import Tensor


@torch.no_grad()
def hard_negatives(losses: Tensor, positives: Tensor, ratio: float = 3) -> Tensor:
    """Which negatives train: of each image the ``ratio * positives`` of largest loss, or all there are.

    Mining is by image; the loss that is trained on is divided by the positives of the whole batch. An image without
    positives has no negatives either.

    Args:
        losses: (B, A), each anchor's loss if it is background.
        positives: (B, A) bool.
        ratio: negatives to a positive, at least 0; a fraction of a negative is left out.

    Returns:
        (B, A) bool, never a positive.

    Raises:
        TypeError: positives are not bool.
        ValueError: the shapes differ or are not (B, A), or ratio is negative.
    """
    if positives.dtype != torch.bool:
        raise TypeError(f"positives are {positives.dtype}: must be torch.bool")
    if losses.dim() != 2 or losses.shape != positives.shape:
        raise ValueError(f"losses {tuple(losses.shape)}, positives {tuple(positives.shape)}: must both be (B, A)")
    if not 0 <= ratio < math.inf:
        raise ValueError(f"ratio={ratio}: must be at least 0")
    most = torch.floor(ratio * positives.sum(1, keepdim=True).double())  # (B, 1)
    # -inf is for the positives alone, so that they come last; a NaN counts as the largest loss
    order = losses.detach().nan_to_num(nan=math.inf, posinf=math.inf, neginf=torch.finfo(losses.dtype).min)
    rank = order.masked_fill(positives, -math.inf).argsort(dim=1, descending=True).argsort(dim=1)
    return (rank < most) & ~positives
