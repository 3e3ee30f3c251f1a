"""Mixup: train on weighted means of two samples and of their labels.

Zhang, Cissé, Dauphin, Lopez-Paz: mixup: Beyond Empirical Risk Minimization, ICLR 2018, Eq. 1 and Sec. 2.
"""

import torch
from torch import Tensor


class Mixup:
    """Mixes a batch with a random permutation of itself.

    Cross-entropy against the mixed targets equals ``λ CE(a) + (1 - λ) CE(b)``, the loss of the official code, since
    cross-entropy is linear in the target. Random numbers come from torch's global generator, which a run seeds for
    each rank and restores exactly.

    Args:
        alpha: λ ~ Beta(alpha, alpha); 0 does not mix. The paper's values: 1 on CIFAR, 0.2 on ImageNet.
        num_classes: K.
        per_sample: draw a λ for each sample instead of one for the batch.

    Raises:
        ValueError: alpha is negative or not finite, or num_classes is below 1.
    """

    def __init__(self, alpha: float, num_classes: int, per_sample: bool = False) -> None:
        if not 0 <= alpha < float("inf"):
            raise ValueError(f"alpha={alpha}: must be at least 0 and finite")
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes}: must be at least 1")
        self.alpha, self.num_classes, self.per_sample = float(alpha), num_classes, per_sample

    def __repr__(self) -> str:
        return f"Mixup(alpha={self.alpha:g}, num_classes={self.num_classes}, per_sample={self.per_sample})"

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix images (B, ...) of a floating dtype and labels (B,): mixed images (B, ...) and targets (B, K).

        Raises:
            TypeError: the images are not floating-point, or the labels are not int64.
            ValueError: the labels are not (B,), or one of them is not a class.
        """
        self._check(images, labels)
        targets = images.new_zeros(len(labels), self.num_classes).scatter_(1, labels[:, None], 1.0)
        if self.alpha == 0:
            return images, targets
        partner = torch.randperm(len(images)).to(images.device)
        weight = beta(self.alpha, len(images) if self.per_sample else 1).to(images)  # (B,) or (1,)
        return _mean(weight, images, images[partner]), _mean(weight, targets, targets[partner])

    def _check(self, images: Tensor, labels: Tensor) -> None:
        if not images.is_floating_point():
            raise TypeError(f"images are {images.dtype}: must be floating-point")
        if labels.dtype != torch.int64:
            raise TypeError(f"labels are {labels.dtype}: must be torch.int64")
        if labels.shape != images.shape[:1]:
            raise ValueError(f"labels of shape {tuple(labels.shape)} for {images.shape[0]} images: must be (B,)")
        # On a GPU a look at the values would wait for it; there the scatter's own assertion fails.
        if (
            labels.device.type == "cpu"
            and len(labels)
            and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes
        ):
            raise ValueError(
                f"labels from {int(labels.min())} to {int(labels.max())}: must be 0 to {self.num_classes - 1}"
            )


def beta(alpha: float, count: int) -> Tensor:
    """``count`` draws of Beta(alpha, alpha) in float64, for any alpha above 0.

    λ = G / (G + G') with G, G' ~ Gamma(alpha), formed from log G = log Gamma(alpha + 1) + log(U) / alpha, because G
    itself underflows for small alpha.
    """
    gamma = torch._standard_gamma(torch.full((2, count), alpha + 1, dtype=torch.float64))
    uniform = 1 - torch.rand(2, count, dtype=torch.float64)  # in (0, 1]
    logs = gamma.log() + uniform.log() / alpha
    return torch.sigmoid(logs[0] - logs[1])


def _mean(weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``weight * a + (1 - weight) * b``, a weight for each row or one for all."""
    weight = weight.view(-1, *[1] * (a.dim() - 1))
    return weight * a + (1 - weight) * b
