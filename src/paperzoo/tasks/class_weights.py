"""Cross-entropy with a weight for each class."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from paperzoo.errors import UserError


class WeightedCrossEntropy(nn.CrossEntropyLoss):
    """torch's weighted cross-entropy, the mean over a batch taken by the weights: ``sum(w_y * l) / sum(w_y)``.

    Of soft targets t, as mixing makes them, it is ``sum(w_k * t_k * l_k) / sum(w_k * t_k)``, so that the loss of mixed
    labels is the mean of their losses. (torch divides that sum by the samples, whatever the weights are.)

    Args:
        class_weights: one for each class, as plain numbers; None: all alike.
        label_smoothing: as torch's.
    """

    def __init__(self, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0) -> None:
        weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        super().__init__(weight=weight, label_smoothing=label_smoothing)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 - as torch names it
        """Of logits (B, K, ...) and classes (B, ...) or soft targets (B, K, ...)."""
        if self.weight is None or self.reduction != "mean" or not target.is_floating_point():
            return super().forward(input, target)
        summed = cross_entropy(input, target, weight=self.weight, label_smoothing=self.label_smoothing, reduction="sum")
        return summed / target.movedim(1, -1).to(self.weight).matmul(self.weight).sum()

    def check(self, info: Mapping[str, Any]) -> None:
        """See ``check_class_weights``."""
        check_class_weights("loss.class_weights", self.weight, info)


def check_class_weights(key: str, weights: Tensor | None, info: Mapping[str, Any]) -> None:
    """Look whether the data has as many classes as there are weights (K,); no weights fit any data.

    Args:
        key: where the weights are given, for the message.
        weights: (K,), or None.
        info: the data's ``info``: classes, values of each output or a vocabulary.

    Raises:
        UserError: it has not.
    """
    needed = info.get("num_classes", info.get("outputs", len(info.get("vocabulary", ""))))
    if weights is not None and len(weights) != needed:
        raise UserError(f"{key}: has {len(weights)} weights, the data has {needed} classes; give each one")
