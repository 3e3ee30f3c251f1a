"""The losses of a dense detector, in which almost all anchors hold nothing (Sec. 4.1, 5.1)."""

import torch
from torch import Tensor
from torch.nn.functional import l1_loss

from paperzoo.detection.losses import of_all_ranks
from paperzoo.detection.matching import IGNORED
from paperzoo.papers.focal_loss import sigmoid_focal_loss
from paperzoo.papers.ssd import hard_negatives

FOCAL, CROSS_ENTROPY, MINED = "focal", "cross_entropy", "mined"
KINDS = (FOCAL, CROSS_ENTROPY, MINED)
IMAGE, BATCH = "image", "batch"
NORMALIZERS = (IMAGE, BATCH)
ALPHA, GAMMA = 0.25, 2.0  # of the focal loss (Table 1b)


def classification_losses(
    logits: Tensor,
    matches: Tensor,
    labels: Tensor,
    kind: str = FOCAL,
    alpha: float | None = None,
    gamma: float = GAMMA,
    negatives: float = 3,
) -> Tensor:
    """Each anchor's loss: of K binary classifications, summed; zero where it is not trained on.

    Args:
        logits: (B, A, K).
        matches: (B, A) int64, at least 0 where an anchor is an object's, else ``NOTHING`` or ``IGNORED``.
        labels: (P,) int64, the classes of those P anchors, in order.
        kind: ``focal``; ``cross_entropy`` of all anchors; or ``mined``: cross entropy of objects' anchors and, of each
            image, of the ``negatives`` times as many others whose loss is largest.
        alpha: weight of the classification of the right class, 1 - alpha of others; None: 0.25 if ``focal``, else none.
        gamma: the exponent of ``focal``.

    Returns:
        (B, A).

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind}: must be one of {', '.join(KINDS)}")
    positives = matches >= 0
    wanted = torch.zeros_like(logits)
    wanted[(*positives.nonzero(as_tuple=True), labels)] = 1
    weight = ALPHA if alpha is None and kind == FOCAL else alpha
    losses = sigmoid_focal_loss(logits, wanted, weight, gamma if kind == FOCAL else 0.0).sum(dim=2)  # (B, A)
    trained = matches != IGNORED
    if kind == MINED:
        last = losses.detach().masked_fill(~trained, -torch.inf)  # taken only where there are too few others
        trained = positives | (hard_negatives(last, positives, negatives) & trained)
    return torch.where(trained, losses, 0)


def box_losses(deltas: Tensor, matches: Tensor, codes: Tensor) -> Tensor:
    """Each anchor's L1 loss of four numbers; zero where it is no object's.

    Args:
        deltas: (B, A, 4).
        matches: (B, A), see ``classification_losses``.
        codes: (P, 4), what the deltas of the P objects' anchors are to be.

    Returns:
        (B, A).
    """
    positives = matches >= 0
    losses = deltas.new_zeros(matches.shape)
    return losses.masked_scatter(positives, l1_loss(deltas[positives], codes, reduction="none").sum(dim=1))


def over_positives(losses: Tensor, matches: Tensor, normalizer: str = IMAGE) -> Tensor:
    """The sum of anchors' losses (B, A) over the number of objects' anchors, at least 1.

    With ``image`` image by image, and the mean over images (Sec. 4.1, torchvision); with ``batch`` over all of the
    batch on all ranks (Detectron), which weighs the objects of crowded images as much as others.

    Raises:
        ValueError: there is no such normalizer.
    """
    if normalizer not in NORMALIZERS:
        raise ValueError(f"normalizer={normalizer}: must be one of {', '.join(NORMALIZERS)}")
    counts = (matches >= 0).sum(dim=1)  # (B,)
    if normalizer == BATCH:
        return of_all_ranks(losses.sum() / counts.sum().clamp(min=1), counts.sum())
    return (losses.sum(dim=1) / counts.clamp(min=1)).mean()
