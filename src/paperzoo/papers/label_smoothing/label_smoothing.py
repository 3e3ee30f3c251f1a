"""Label smoothing: cross-entropy against targets that leave a share ε to other classes.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture for Computer Vision, CVPR 2016, Sec. 7.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

REDUCTIONS = ("mean", "sum", "none")


def _uniform(target: Tensor, epsilon: float, classes: int) -> Tensor:
    """Towards the uniform distribution over all classes: the paper's q', and torch's ``label_smoothing``."""
    return (1 - epsilon) * target + epsilon / classes


def _others(target: Tensor, epsilon: float, classes: int) -> Tensor:
    """ε shared by the other classes, so that the true one keeps exactly 1 - ε (Bag of Freebies; mind K = 2)."""
    return (1 - epsilon) * target + epsilon * (1 - target) / max(classes - 1, 1)


def _classy_vision(target: Tensor, epsilon: float, classes: int) -> Tensor:
    """ε/K is added to every class and the sum brought back to 1: weaker than the paper's at the same ε."""
    return (target + epsilon / classes) / (1 + epsilon)


CONVENTIONS: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "uniform": _uniform,
    "others": _others,
    "classy_vision": _classy_vision,
}


def smooth(target: Tensor, epsilon: float, convention: str = "uniform") -> Tensor:
    """Smoothed targets (B, K, ...) of one-hot or soft targets (B, K, ...).

    Raises:
        ValueError: epsilon is not in [0, 1], or the convention is unknown.
    """
    _check(epsilon, convention)
    return CONVENTIONS[convention](target, epsilon, target.shape[1])


class LabelSmoothingCrossEntropy(nn.Module):
    """Cross-entropy against smoothed targets, called with logits (B, K) and classes (B,) or soft targets (B, K).

    Further dimensions are places, as in ``torch.nn.CrossEntropyLoss``: logits (B, K, ...), classes (B, ...).

    Args:
        epsilon: the share that is taken from the target; the paper's is 0.1.
        convention: how it is shared out: "uniform" (the paper's) ``(1 - ε) t + ε / K``, "others"
            ``(1 - ε) t + ε (1 - t) / (K - 1)``, "classy_vision" ``(t + ε / K) / (1 + ε)``.
        reduction: "mean" over samples and places, "sum", or "none".
        ignore_index: places of this class are in no loss.

    Raises:
        ValueError: epsilon is not in [0, 1], or the convention or reduction is unknown.
    """

    def __init__(
        self, epsilon: float, convention: str = "uniform", reduction: str = "mean", ignore_index: int = -100
    ) -> None:
        super().__init__()
        _check(epsilon, convention)
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction={reduction!r}: must be one of {', '.join(REDUCTIONS)}")
        self.epsilon, self.convention, self.reduction = epsilon, convention, reduction
        self.ignore_index = ignore_index

    def extra_repr(self) -> str:
        """For print(module)."""
        return f"epsilon={self.epsilon:g}, convention={self.convention!r}"

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss: a scalar, or (B, ...) without reduction; of nothing 0.

        Raises:
            ValueError: the target's shape does not fit the logits.
        """
        wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        soft, kept = self._soft(wide, target)
        targets = CONVENTIONS[self.convention](soft, self.epsilon, wide.shape[1])
        losses = -(targets * wide.log_softmax(dim=1)).sum(dim=1)  # (B, ...)
        if kept is not None:
            losses = losses * kept
        if self.reduction == "mean":
            count = losses.numel() if kept is None else kept.sum()
            losses = losses.sum() / (max(count, 1) if isinstance(count, int) else count.clamp(min=1))
        elif self.reduction == "sum":
            losses = losses.sum()
        return losses.to(logits.dtype)

    def _soft(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """Soft targets of the logits' shape and dtype; and which places count, where classes were given."""
        if target.is_floating_point():
            if target.shape != logits.shape:
                raise ValueError(f"soft target of shape {tuple(target.shape)}: must be {tuple(logits.shape)}")
            return target.to(logits.dtype), None
        places = logits.shape[:1] + logits.shape[2:]
        if target.shape != places:
            raise ValueError(f"target of shape {tuple(target.shape)}: must be {tuple(places)}, the classes")
        kept = target != self.ignore_index
        classes = target.masked_fill(~kept, 0)[:, None]
        if (
            classes.numel()
            and classes.device.type == "cpu"
            and not 0 <= int(classes.min()) <= int(classes.max()) < logits.shape[1]
        ):
            raise ValueError(
                f"target from {int(classes.min())} to {int(classes.max())}: must be 0 to {logits.shape[1] - 1}"
            )
        return torch.zeros_like(logits).scatter_(1, classes, 1.0), kept


def _check(epsilon: float, convention: str) -> None:
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon={epsilon}: must be from 0 to 1")
    if convention not in CONVENTIONS:
        raise ValueError(f"convention={convention!r}: must be one of {', '.join(CONVENTIONS)}")
