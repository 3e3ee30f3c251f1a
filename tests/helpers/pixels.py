"""Maps of labels and what a naive count of their pixels gives."""

import numpy as np
import torch
from torch import Tensor

from paperzoo.tasks.segmentation import IGNORED


def naive(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Pixel by pixel into a confusion matrix, then class by class; ``IGNORED`` counts nowhere."""
    classes = logits.shape[1]
    matrix = np.zeros((classes, classes))
    losses = []
    pixels = logits.detach().movedim(1, -1).reshape(-1, classes).double()
    for scores, truth in zip(pixels, labels.flatten(), strict=True):
        if truth != IGNORED:
            matrix[truth, int(scores.argmax())] += 1
            losses.append(float(scores.exp().sum().log() - scores[truth]))
    ious, recalls = [], []
    for k in range(classes):
        union = matrix[k].sum() + matrix[:, k].sum() - matrix[k, k]
        if union:
            ious.append(matrix[k, k] / union)
        if matrix[k].sum():
            recalls.append(matrix[k, k] / matrix[k].sum())
    return {"loss": np.mean(losses), "miou": np.mean(ious), "pixel_accuracy": np.trace(matrix) / matrix.sum(),
            "class_accuracy": np.mean(recalls)}  # fmt: skip


def batch(seed: int, count: int = 4, classes: int = 6) -> tuple[Tensor, Tensor]:
    """Class 4 is never there, class 5 neither there nor predicted."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, 5, 7, generator=generator)
    logits[:, 5] = -9
    labels = torch.randint(0, 4, (count, 5, 7), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = IGNORED
    return logits, labels
