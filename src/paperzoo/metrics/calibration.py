"""How far a classifier's confidence is from its accuracy, bin by bin.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017, Eq. 3 (ECE) and Fig. 1 (the diagram).
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Bins(NamedTuple):
    """Predictions by their confidence. The last bin is that of a confidence of exactly 1, as in torchmetrics."""

    count: Tensor  # type: ignore[assignment]  # (n + 1,) int64; not the method of tuples
    confidence: Tensor  # (n + 1,) float64, the mean in a bin; 0 where it is empty
    accuracy: Tensor  # (n + 1,) float64, likewise

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean over predictions of |accuracy - confidence| of their bin."""
        share = self.count.double() / self.count.sum()
        return float(((self.accuracy - self.confidence).abs() * share).sum())


def bins(confidence: Tensor, correct: Tensor, count: int = 15) -> Bins:
    """Predictions in bins [k / n, (k + 1) / n) of confidence.

    Args:
        confidence: (N,) probability of the class that was predicted.
        correct: (N,) whether it was right, as 0 and 1.
        count: n.

    Raises:
        ValueError: the shapes differ, or a confidence is not in [0, 1].
    """
    if confidence.dim() != 1 or confidence.shape != correct.shape:
        raise ValueError(f"confidence {tuple(confidence.shape)}, correct {tuple(correct.shape)}: must both be (N,)")
    if not bool(((confidence >= 0) & (confidence <= 1)).all()):
        raise ValueError("confidence: must be from 0 to 1")
    edges = torch.linspace(0, 1, count + 1, dtype=confidence.dtype, device=confidence.device)
    place = torch.bucketize(confidence, edges, right=True) - 1
    members = torch.bincount(place, minlength=count + 1)
    of_bins = members.clamp(min=1)
    means = [torch.bincount(place, values.double(), count + 1) / of_bins for values in (confidence, correct)]
    return Bins(members, *means)
