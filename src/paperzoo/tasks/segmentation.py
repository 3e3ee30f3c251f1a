"""Segmentation (scene parsing): classification of every pixel. What is not said here is ``Classification``'s."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from paperzoo import pictures
from paperzoo.norms.single import explained
from paperzoo.tasks.classification import Batch, Classification
from paperzoo.tasks.running import Running

IGNORED = -100  # the label of pixels that count nowhere; torch's losses leave it out
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


class Confusion(Metric):
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
    """The loss (a mean over the batches, each as heavy as its images) and ``scores`` while training."""

    def places(self, num_classes: int) -> int:
        """Three numbers a class: hits, truth, predicted."""
        self.num_classes = num_classes
        return 3 * num_classes

    def count(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of logits (B, K, H, W) and labels (B, H, W): (3 * K,)."""
        labelled = labels != IGNORED
        truth, predicted = labels[labelled], logits.argmax(1)[labelled]
        parts = (truth[truth == predicted], truth, predicted)
        return torch.cat([torch.bincount(part, minlength=self.num_classes) for part in parts])

    def sums(self, counted: list[int]) -> list[int]:
        """All of them."""
        return counted

    def scores(self, sums: list[float], images: float) -> dict[str, float]:
        """See ``scores``."""
        return scores(*torch.tensor(sums, dtype=torch.float64).chunk(3))


class Segmentation(Classification):
    """A network that gives logits (B, K, H, W), with the metrics of segmentation.

    Labels are (B, H, W); pixels labelled ``IGNORED`` are in no loss and in no metric. A network with a second scorer
    gives both logits by ``forward_both``, and ``auxiliary`` is the weight of the second's loss.
    """

    headline: ClassVar[str] = "miou"
    network: Any

    @property
    def auxiliary(self) -> float:
        """The weight of the auxiliary loss; 0 where the network has no second scorer."""
        return 0.0

    def logits_and_loss(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K, H, W), and the mean loss over labelled pixels with the auxiliary scorer's share."""
        if not self.auxiliary:
            return super().logits_and_loss(images, targets)
        with explained(len(images), images.shape[2:]):
            logits, second = self.network.forward_both(images.contiguous(memory_format=self.memory_format))
        return logits, self.mean_loss(logits, targets) + self.auxiliary * self.mean_loss(second, targets)

    def mean_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The chosen loss; of no labelled pixels zero."""
        return self.loss(logits, targets) if bool((targets != IGNORED).any()) else 0 * logits.sum()

    def make_running(self) -> Running:
        """The training metrics."""
        return RunningMaps(self.hparams["window"], self.hparams["num_classes"], self.device)

    def size_of_batch(self, labels: Tensor) -> int | None:
        """Labelled pixels: each is as heavy on whatever rank it is."""
        return int((labels != IGNORED).sum())

    def make_scores(self, num_classes: int) -> MetricCollection:
        """The confusion of all labelled pixels, from which the metrics come."""
        return MetricCollection({"confusion": Confusion(num_classes)})

    def metrics_of(self, values: dict[str, Tensor]) -> dict[str, float]:
        """See ``scores``."""
        assert self.confusion is not None
        return scores(self.confusion.diagonal(), self.confusion.sum(1), self.confusion.sum(0))

    def _evaluate(self, batch: Batch) -> None:
        images, labels = batch
        logits = self(images).float()
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")  # comparable across training losses
        self.losses.update(losses[labels != IGNORED].double())
        self.scores.update(logits.argmax(1), labels)

    def draw(self, data: Any, folder: Path, title: str) -> None:
        """The confusion matrix, and predictions beside the truth."""
        super().draw(data, folder, title)
        pixels = data.examples(DRAWN)
        images, truth = data.on_after_batch_transfer([pixels.to(self.device), None, None], 0)
        training = self.training
        with torch.no_grad():
            predicted = self.eval()(images).argmax(1)
        self.train(training)
        shown = pixels[:, : data.in_chans].permute(0, 2, 3, 1).numpy()
        path = folder / "predictions.png"
        pictures.predictions(shown, truth.cpu(), predicted.cpu(), data.class_names, IGNORED, title, path)
