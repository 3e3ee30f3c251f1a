"""Networks of several papers, and a linear meta-learner upon their probabilities."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn

from paperzoo.networks.ensemble import Ensemble, maker


class Stacked(Ensemble):
    """An ensemble whose vote is a multinomial logistic regression upon the members' probabilities.

    Until the meta-learner is fitted, the vote is the mean of the probabilities.

    Args:
        makes: M functions, each makes a member that gives logits (B, K).
        num_classes: K.

    Attributes:
        meta_weight: (K, M K), a buffer: column m K + k is of class k of member m.
        meta_bias: (K,), a buffer.
        fitted: (), whether they are.
    """

    meta_weight: Tensor
    meta_bias: Tensor
    fitted: Tensor

    def __init__(self, makes: Sequence[Callable[[], nn.Module]], num_classes: int) -> None:
        super().__init__(makes)
        self.register_buffer("meta_weight", torch.zeros(num_classes, len(makes) * num_classes))
        self.register_buffer("meta_bias", torch.zeros(num_classes))
        self.register_buffer("fitted", torch.tensor(False))
        self.look()

    def look(self) -> None:
        """Note also whether there is a meta-learner."""
        super().look()
        fitted = getattr(self, "fitted", None)
        self.has_meta = fitted is not None and not fitted.is_meta and bool(fitted)

    def vote(self, logits: Tensor, numbers: list[int]) -> Tensor:
        """The meta-learner's logits (B, K) of the logits (M, B, K) of all members."""
        if not self.has_meta:
            return super().vote(logits, numbers)
        return self.log_probabilities(logits, numbers)

    def log_probabilities(self, logits: Tensor, numbers: list[int]) -> Tensor:
        """Likewise."""
        if not self.has_meta:
            return super().log_probabilities(logits, numbers)
        return nn.functional.linear(side_by_side(logits), self.meta_weight.to(logits), self.meta_bias.to(logits))


def side_by_side(logits: Tensor) -> Tensor:
    """The members' probabilities (B, M K) from their logits (M, B, K)."""
    return logits.softmax(-1).transpose(0, 1).flatten(1)


@register_model
def stacking(
    pretrained: bool = False, papers: Sequence[str] = ("resnet", "resnext"), num_classes: int = 10, **options: Any
) -> Stacked:
    """The small networks of papers, stacked.

    Args:
        pretrained: there are no weights.
        papers: M slugs.
        num_classes: K.
        options: of each network.
    """
    return Stacked([maker(paper, num_classes=num_classes, **options) for paper in papers], num_classes)
