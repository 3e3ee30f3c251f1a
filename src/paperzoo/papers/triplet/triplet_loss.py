"""Triplet losses over a batch of P identities with K samples each.

Hermans, Beyer, Leibe: In Defense of the Triplet Loss for Person Re-Identification, 2017, Eq. 5 (batch-hard), Eq. 6
(batch-all), Sec. 2 (soft margin); semi-hard: Schroff, Kalenichenko, Philbin: FaceNet, CVPR 2015, Sec. 3.2.

Symbols: anchor a, positive p of the same label, negative n of another; d is the Euclidean distance, not squared,
because squared distances made training collapse more easily (Sec. 2).
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperzoo.papers.triplet import distances

Margin = float | Literal["soft"]
Average = Literal["all", "nonzero"]
MINING = ("batch_hard", "batch_all", "semi_hard")


class Mined(NamedTuple):
    """A loss and how much it was a mean of, as 0-dim tensors: reading them is left to whoever logs."""

    loss: Tensor
    triplets: Tensor  # int64
    active: Tensor  # share of these whose loss is above 0; 0 where there are none


def batch_hard(embeddings: Tensor, labels: Tensor, margin: Margin) -> Tensor:
    """Eq. 5: for each anchor its furthest positive and its closest negative; mean over anchors that have both.

    Args:
        embeddings: (B, D).
        labels: (B,), one of an identity.
        margin: m of ``max(d_ap - d_an + m, 0)``, or "soft" for ``softplus(d_ap - d_an)``.

    Returns:
        A scalar; 0, with gradients of 0, if there is no triplet.

    Raises:
        ValueError: shapes do not fit, or the margin is negative or an unknown word.
    """
    return mined(embeddings, labels, margin, "batch_hard").loss


def batch_all(embeddings: Tensor, labels: Tensor, margin: Margin, average: Average = "all") -> Tensor:
    """Eq. 6: every anchor, positive and negative, ``PK (PK - K) (K - 1)`` triplets of P identities with K samples.

    Memory: the triplets of every (anchor, positive) with the whole batch, ``PK (K - 1) PK`` numbers, and B * B * D for
    the distances; no loop.

    Args:
        embeddings, labels, margin: as ``batch_hard``.
        average: "all" triplets, or those of "nonzero" loss (the paper's BA≠0), because most become easy.
    """
    return mined(embeddings, labels, margin, "batch_all", average).loss


def semi_hard(embeddings: Tensor, labels: Tensor, margin: float) -> Tensor:
    """FaceNet's triplets: the negative is further than the positive, but by less than the margin; mean over these.

    Args:
        embeddings, labels: as ``batch_hard``.
        margin: a number.
    """
    return mined(embeddings, labels, margin, "semi_hard").loss


def mined(embeddings: Tensor, labels: Tensor, margin: Margin, mining: str, average: Average = "all") -> Mined:
    """A loss by the name of its mining, with the number of triplets and the share that is active."""
    _check(embeddings, labels, margin, mining, average)
    x = embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings
    if mining == "batch_hard":
        losses, valid = _hard(x, labels, margin)
    else:
        losses, valid = _all(x, labels, margin, semi_hard=mining == "semi_hard")
    losses = torch.where(valid, losses, 0)
    above = losses > 0
    count = (above if average == "nonzero" else valid).sum()
    loss = losses.sum() / count.clamp(min=1) + (0 * x).sum()  # a graph, also where there is no triplet
    triplets = valid.sum()
    return Mined(loss.to(embeddings.dtype), triplets, above.sum() / triplets.clamp(min=1))


class TripletLoss(nn.Module):
    """A triplet loss as a module.

    Args:
        mining: "batch_hard", "batch_all" or "semi_hard".
        margin: a number, or "soft".
        average: of batch_all: over "all" triplets or those of "nonzero" loss.

    Attributes:
        latest: the ``Mined`` of the last call, detached.
    """

    def __init__(self, mining: str = "batch_hard", margin: Margin = "soft", average: Average = "all") -> None:
        super().__init__()
        _check_choice(margin, mining, average)
        self.mining, self.margin, self.average = mining, margin, average
        self.latest: Mined | None = None

    def extra_repr(self) -> str:
        """For print(module)."""
        return f"{self.mining}, margin={self.margin}"

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Of embeddings (B, D) and labels (B,): a scalar."""
        result = mined(embeddings, labels, self.margin, self.mining, self.average)
        self.latest = Mined(*(value.detach() for value in result))
        return result.loss


def _hard(x: Tensor, labels: Tensor, margin: Margin) -> tuple[Tensor, Tensor]:
    """Losses (B,) of the anchors, and which of them have a positive and a negative."""
    same = labels[:, None] == labels
    own = torch.eye(len(x), dtype=torch.bool, device=x.device)
    if not len(x):
        return x.sum(1), same.any(1)
    squared = distances.squared_for_mining(x)
    # the anchor itself is no positive, even if all others are as near; a negative must be masked with inf, not with 0
    furthest = squared.masked_fill(~same | own, -torch.inf).argmax(1)
    closest = squared.masked_fill(same, torch.inf).argmin(1)
    d_ap, d_an = distances.paired(x, x[furthest]), distances.paired(x, x[closest])
    return _loss(d_ap - d_an, margin), (same & ~own).any(1) & (~same).any(1)


def _all(x: Tensor, labels: Tensor, margin: Margin, *, semi_hard: bool) -> tuple[Tensor, Tensor]:
    """Losses (pairs, B): each pair of an anchor and a positive with every sample; and which of these are negatives."""
    same = labels[:, None] == labels
    d = distances.all_pairs(x)  # (B, B)
    anchor, positive = (same & ~torch.eye(len(x), dtype=torch.bool, device=x.device)).nonzero(as_tuple=True)
    difference = d[anchor, positive][:, None] - d[anchor]  # d_ap - d_an
    valid = ~same[anchor]
    if semi_hard:
        assert margin != "soft"
        valid &= (difference < 0) & (difference + margin > 0)
    return _loss(difference, margin), valid


def _loss(difference: Tensor, margin: Margin) -> Tensor:
    """Of d_ap - d_an: the hinge, or softplus, which has no threshold and so goes on pulling."""
    if margin == "soft":
        return -F.logsigmoid(-difference)  # exact in float64, where F.softplus is linear above 20
    return torch.relu(difference + margin)  # slope 0 at 0, as clamp has not


def _check(embeddings: Tensor, labels: Tensor, margin: Margin, mining: str, average: str) -> None:
    if embeddings.dim() != 2 or labels.shape != embeddings.shape[:1]:
        raise ValueError(f"embeddings {tuple(embeddings.shape)}, labels {tuple(labels.shape)}: must be (B, D) and (B,)")
    if not embeddings.is_floating_point():
        raise TypeError(f"embeddings are {embeddings.dtype}: must be floating-point")
    _check_choice(margin, mining, average)


def _check_choice(margin: Margin, mining: str, average: str) -> None:
    if mining not in MINING:
        raise ValueError(f"mining={mining!r}: must be one of {', '.join(MINING)}")
    if average not in ("all", "nonzero"):
        raise ValueError(f"average={average!r}: must be all or nonzero")
    if isinstance(margin, str):
        if margin != "soft":
            raise ValueError(f"margin={margin!r}: must be a number of at least 0, or soft")
        if mining == "semi_hard":
            raise ValueError("margin='soft' with mining='semi_hard': these triplets lie within a margin; give a number")
    elif not 0 <= margin < float("inf"):
        raise ValueError(f"margin={margin}: must be a number of at least 0, or soft")
