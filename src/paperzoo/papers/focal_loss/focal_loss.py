"""Focal loss: cross-entropy whose easy samples are down-weighted by (1 - p_t)^γ.

Lin, Goyal, Girshick, He, Dollár: Focal Loss for Dense Object Detection, ICCV 2017, Eq. 5.

The power is taken where a saturated sample is safe: (1 - p)^γ has an infinite slope at p = 1 for γ < 1, and 0 * inf
is NaN; near saturation the slope is 0 in exact arithmetic, and so it is here. Half precision is computed in float32.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperzoo.tasks.class_weights import check_class_weights

REDUCTIONS = ("none", "mean", "sum")
PRIOR = 0.01  # π of the paper, Sec. 4.1


def sigmoid_focal_loss(
    logits: Tensor, targets: Tensor, alpha: float | None = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Tensor:
    """``-α_t (1 - p_t)^γ log p_t`` (Eq. 5) of each logit, a binary classification each.

    Args:
        logits: any shape.
        targets: 0 or 1 as floating-point numbers, of the logits' shape. (Values between are treated as torchvision's
            function of this name does: p_t, α_t and the cross-entropy are each interpolated.)
        alpha: α of targets 1, and 1 - α of targets 0; None leaves the weights out.
        gamma: at least 0, which is cross-entropy.
        reduction: "none", "mean" or "sum".

    Raises:
        ValueError: shapes differ, or alpha, gamma or reduction is not allowed.
    """
    _check(gamma, reduction)
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha}: must be from 0 to 1, or None for no weights")
    if targets.shape != logits.shape:
        raise ValueError(f"targets of shape {tuple(targets.shape)}: must be {tuple(logits.shape)}, as the logits")
    x, t = _wide(logits), targets.to(_wide(logits).dtype)
    entropy = -(t * F.logsigmoid(x) + (1 - t) * F.logsigmoid(-x))
    wrong = t * torch.sigmoid(-x) + (1 - t) * torch.sigmoid(x)  # 1 - p_t, without cancellation
    losses = _power(wrong, gamma) * entropy
    if alpha is not None:
        losses = (alpha * t + (1 - alpha) * (1 - t)) * losses
    return _reduced(losses, reduction).to(logits.dtype)


def linear_focal_loss(logits: Tensor, targets: Tensor, reduction: str = "none") -> Tensor:
    """``-[y (1 - p) log p + (1 - y) p log(1 - p)]``: the special case γ = 1 without α, common in lecture notes."""
    return sigmoid_focal_loss(logits, targets, alpha=None, gamma=1.0, reduction=reduction)


def softmax_focal_loss(
    logits: Tensor, labels: Tensor, gamma: float, alpha: Tensor | None = None, reduction: str = "none"
) -> Tensor:
    """``-α_y (1 - p_y)^γ log p_y`` of logits (B, K) and labels (B,): (B,), or a scalar.

    With d = logsumexp of the other logits - the label's logit, p_y = σ(-d) and 1 - p_y = σ(d): the binary loss at d,
    exact at both ends.

    Args:
        logits: (B, K).
        labels: (B,) int64.
        gamma: at least 0, which is cross-entropy.
        alpha: (K,) weights of the classes, or None.
        reduction: "none", "mean" (over B) or "sum".

    Raises:
        ValueError: shapes do not fit, or gamma or reduction is not allowed.
    """
    _check(gamma, reduction)
    if logits.dim() != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits {tuple(logits.shape)}, labels {tuple(labels.shape)}: must be (B, K) and (B,)")
    if alpha is not None and alpha.shape != logits.shape[1:]:
        raise ValueError(f"alpha of shape {tuple(alpha.shape)}: must be ({logits.shape[1]},), a weight for each class")
    x = _wide(logits)
    if x.shape[1] == 1:  # one class: p is 1
        losses = (x * 0).sum(1)
    else:
        own = x.gather(1, labels[:, None])  # (B, 1)
        others = x.scatter(1, labels[:, None], -math.inf).logsumexp(1)  # (B,)
        d = others - own.squeeze(1)
        losses = -torch.exp(gamma * F.logsigmoid(d)) * F.logsigmoid(-d)
    if alpha is not None:
        losses = alpha.to(losses)[labels] * losses
    return _reduced(losses, reduction).to(logits.dtype)


def over_positives(losses: Tensor, targets: Tensor) -> Tensor:
    """The sum of all losses over the number of positives, at least 1 (Sec. 4.1), of the whole batch.

    torchvision divides image by image and averages over images, which weighs objects of crowded images less.
    """
    return losses.sum() / (targets > 0).sum().clamp(min=1)


def prior_bias(prior: float = PRIOR) -> float:
    """The bias ``-log((1 - π) / π)`` with which a sigmoid starts at π (Sec. 4.1); -4.595 for 0.01.

    Raises:
        ValueError: the prior is not between 0 and 1.
    """
    if not 0 < prior < 1:
        raise ValueError(f"prior={prior}: must be above 0 and below 1")
    return -math.log((1 - prior) / prior)


def set_prior(layer: nn.Module, prior: float | Sequence[float] = PRIOR) -> None:
    """Set the bias of a layer's last dimension, so that before training a sigmoid says ``prior`` (one, or by class).

    Raises:
        ValueError: the layer has no bias, or a prior is not between 0 and 1.
    """
    bias = getattr(layer, "bias", None)
    if not isinstance(bias, Tensor):
        raise ValueError(f"{type(layer).__name__}: has no bias to set")
    values = [prior_bias(p) for p in prior] if isinstance(prior, Sequence) else prior_bias(prior)
    with torch.no_grad():
        bias.copy_(torch.as_tensor(values).expand_as(bias))


class FocalLoss(nn.Module):
    """The softmax form as a training loss of classification: logits (B, K), classes (B,) or soft targets (B, K).

    Soft targets, as mixing makes them, weigh the losses of the classes: ``Σ_k t_k FL(k)``.

    Args:
        gamma: at least 0, which is cross-entropy.
        alpha: weights of the classes, or None.
        reduction: "mean", "sum" or "none".
    """

    alpha: Tensor | None

    def __init__(self, gamma: float = 2.0, alpha: Sequence[float] | None = None, reduction: str = "mean") -> None:
        super().__init__()
        _check(gamma, reduction)
        self.gamma, self.reduction = gamma, reduction
        self.register_buffer("alpha", None if alpha is None else torch.tensor(alpha), persistent=False)

    def extra_repr(self) -> str:
        """For print(module)."""
        return f"gamma={self.gamma:g}"

    def check(self, info: Mapping[str, Any]) -> None:
        """See ``check_class_weights``."""
        check_class_weights("loss.alpha", self.alpha, info)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss; of no samples 0."""
        if target.is_floating_point():
            losses = self._soft(logits, target)
        else:
            losses = softmax_focal_loss(logits, target, self.gamma, self.alpha)
        return _reduced(losses, self.reduction) if len(losses) or self.reduction != "mean" else losses.sum()

    def _soft(self, logits: Tensor, target: Tensor) -> Tensor:
        if target.shape != logits.shape:
            raise ValueError(f"soft target of shape {tuple(target.shape)}: must be {tuple(logits.shape)}")
        logs = _wide(logits).log_softmax(dim=1)
        losses = -_power(-torch.expm1(logs), self.gamma) * logs  # (B, K): the loss of each class
        weights = target.to(losses) if self.alpha is None else target.to(losses) * self.alpha.to(losses)
        return (weights * losses).sum(1).to(logits.dtype)


def _power(share: Tensor, gamma: float) -> Tensor:
    """``share ** gamma`` with slope 0 instead of infinity where the share is 0."""
    return share.clamp(min=torch.finfo(share.dtype).tiny) ** gamma


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.mean()


def _check(gamma: float, reduction: str) -> None:
    if not gamma >= 0:
        raise ValueError(f"gamma={gamma}: must be at least 0")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction={reduction!r}: must be one of {', '.join(REDUCTIONS)}")
