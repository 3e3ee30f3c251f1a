"""Cross-entropy with a weight for each class."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from paperzoo.errors import UserError


class WeightedCrossEntropy(nn.CrossEntropyLoss):
    """torch's weighted cross-entropy, the mean over a batch taken by the weights: ``sum(w_y * l) / sum(w_y)``.

    Args:
        class_weights: one for each class, as plain numbers; None: all alike.
        label_smoothing: as torch's.
    """

    def __init__(self, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0) -> None:
        weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        super().__init__(weight=weight, label_smoothing=label_smoothing)

    def check(self, info: Mapping[str, Any]) -> None:
        """Look whether the data has as many classes.

        Raises:
            UserError: it has not.
        """
        given, needed = len(self.weight) if self.weight is not None else None, info.get("num_classes")
        if given not in (None, needed):
            raise UserError(f"loss.class_weights: has {given} weights, the data has {needed} classes; give each one")
