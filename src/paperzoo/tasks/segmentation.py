"""Segmentation (scene parsing): classification of every pixel. What is not said here is ``Classification``'s."""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
import torchmetrics
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchmetrics import MetricCollection

from paperzoo import pictures
from paperzoo.data.images.maps import IGNORED
from paperzoo.data.interface import Batch
from paperzoo.metric import Metric
from paperzoo.tasks.classification import Classification, by_sample
from paperzoo.tasks.running import Running
from paperzoo.tasks.task import evaluating

DRAWN = 6  # images whose prediction is drawn


def scores(hits: Tensor, truth: Tensor, predicted: Tensor) -> dict[str, float]:
    """Mean IoU, pixel accuracy and mean accuracy of the classes, from the labelled pixels of each class (K,).

    ``IoU_k = hits_k / (truth_k + predicted_k - hits_k)`` (Jaccard index). A class that is neither there nor predicted
    has none and is left out of the mean, as one that is not there is of the classes' accuracy.

    Args:
        hits: pixels that are of class k and predicted so.
        truth: pixels that are of class k.
        predicted: pixels that are predicted so.
    """
    hits, truth, predicted = hits.double(), truth.double(), predicted.double()
    union = truth + predicted - hits
    return {
        "miou": float((hits / union)[union > 0].mean()),
        "pixel_accuracy": float(hits.sum() / truth.sum()),
        "class_accuracy": float((hits / truth)[truth > 0].mean()),
    }


class Confusion(torchmetrics.Metric):
    """(K, K) numbers of labelled pixels, rows are the truth, over all ranks.

    torchmetrics' own compares every pixel with each of the K * K cells where algorithms must be deterministic: 20 GB
    for twenty maps of 64 x 64 and 133 classes.
    """

    matrix: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        empty = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("matrix", default=empty, dist_reduce_fx="sum")

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Add class indices of one shape; those whose truth is ``IGNORED`` are left out."""
        labelled = truth != IGNORED
        cells = truth[labelled] * self.num_classes + predicted[labelled]
        self.matrix += torch.bincount(cells, minlength=self.num_classes**2).view(self.num_classes, -1)

    def compute(self) -> Tensor:
        """The matrix."""
        return self.matrix


class RunningMaps(Running):
    """The loss (a mean over the batches, each as heavy as its images) and ``scores`` while training.

    Three numbers a class: hits, truth, predicted.
    """

    def __init__(self, window: int, num_classes: int, device: torch.device) -> None:
        self.num_classes = num_classes
        super().__init__(window, device, places=3 * num_classes)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count the labelled pixels of logits (B, K, H, W) and labels (B, H, W)."""
        labelled = labels != IGNORED
        truth, predicted = labels[labelled], logits.argmax(1)[labelled]
        parts = (truth[truth == predicted], truth, predicted)
        self.count(torch.cat([torch.bincount(part, minlength=self.num_classes) for part in parts]))

    def scores(self, sums: list[float], units: float) -> dict[str, float]:
        """See ``scores``."""
        return scores(*torch.tensor(sums, dtype=torch.float64).chunk(3))


class Segmentation(Classification):
    """A network that gives logits (B, K, H, W), with the metrics of segmentation.

    Labels are (B, H, W); pixels labelled ``IGNORED`` are in no loss and in no metric.
    """

    metrics: ClassVar = (
        Metric("miou", percent=True, label="mean IoU"),
        Metric("pixel_accuracy", percent=True, label="pixel accuracy"),
        Metric("class_accuracy", percent=True, label="class accuracy"),
    )

    def mean_loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The chosen loss, with weights (B,) ``sum(w * loss) / labelled pixels``; of no labelled pixels zero."""
        labelled = (targets != IGNORED).sum()
        if not labelled:
            return 0 * logits.sum()
        if weights is None:
            return super().mean_loss(logits, targets)
        return (by_sample(self.loss, logits, targets).flatten(1).sum(1) * weights).sum() / labelled

    def make_running(self) -> Running:
        """The training metrics."""
        return RunningMaps(self.hparams["window"], self.num_classes, self.device)

    def size_of(self, batch: Batch) -> int | None:
        """Labelled pixels: each is as heavy on whatever rank it is."""
        return int((batch.targets != IGNORED).sum())

    def make_scores(self, num_classes: int) -> MetricCollection:
        """The confusion of all labelled pixels, from which the metrics come."""
        return MetricCollection({"confusion": Confusion(num_classes)})

    def metrics_of(self, values: dict[str, Tensor]) -> dict[str, float]:
        """See ``scores``."""
        assert self.confusion is not None
        return scores(self.confusion.diagonal(), self.confusion.sum(1), self.confusion.sum(0))

    def evaluate(self, batch: Batch) -> None:
        """Add a batch to the metrics."""
        logits, labels = self(batch.inputs).float(), batch.targets
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")  # comparable across training losses
        self.mean_losses.update(losses[labels != IGNORED].double())
        self.scores.update(logits.argmax(1), labels)

    def figures(self, data: Any) -> Iterable[tuple[str, Figure]]:
        """The confusion matrix, and predictions beside the truth."""
        yield from super().figures(data)
        pixels = data.examples(DRAWN)
        batch = data.on_after_batch_transfer([pixels.to(self.device), None, None, None], 0)
        with evaluating(self), torch.no_grad():
            predicted = self(batch.inputs).argmax(1)
        shown = pixels[:, : self.info["in_chans"]].permute(0, 2, 3, 1).numpy()
        names = self.info["class_names"]
        yield "predictions", pictures.predictions(shown, batch.targets.cpu(), predicted.cpu(), names, IGNORED)
