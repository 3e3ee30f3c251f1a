"""Image classification: what every classifying paper's module shares.

``Classifier`` builds its network by its name in timm's registry, which is all that most papers need; a paper whose
training differs derives a module of its own.
"""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import timm
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
)

from paperzoo import pictures
from paperzoo.config import build
from paperzoo.config.schema import Mix
from paperzoo.data.interface import Batch
from paperzoo.errors import UserError
from paperzoo.metric import Metric
from paperzoo.norms.single import explained
from paperzoo.tasks.running import Running
from paperzoo.tasks.task import Task

TOP = (1, 5)
UNIT = 2**20  # weighted hits are counted in whole parts of so many: their sums are exact in any order


class Classification(Task):
    """A network that gives logits (B, K), its loss and the metrics of classification."""

    metrics: ClassVar = (
        Metric("top1", percent=True, label="top-1 accuracy"),
        Metric("top5", percent=True, label="top-5 accuracy"),
        Metric("ece", "min", label="expected calibration error"),
    )

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if self.loss is None:
            raise UserError("loss=task: classification has none of its own; use loss=cross_entropy")
        self.num_classes = self.info["num_classes"]
        chosen = Mix.model_validate(arguments["mix"])
        self.mix = build(chosen, num_classes=self.num_classes) if chosen.target else None
        self.scores = self.make_scores(self.num_classes)
        self.confusion: Tensor | None = None  # (K, K) of the last pass: rows are the truth

    def make_network(self, options: dict[str, Any]) -> nn.Module:
        """See ``build_network``."""
        return self.build_network(num_classes=self.info["num_classes"], in_chans=self.info["in_chans"], **options)

    def build_network(self, network: str, num_classes: int, in_chans: int, **options: Any) -> nn.Module:
        """A network from timm's registry, which leaves out options that are None."""
        importlib.import_module(f"paperzoo.papers.{self.hparams['model']['name']}")  # it registers its networks
        return timm.create_model(network, num_classes=num_classes, in_chans=in_chans, **options)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        with explained(len(images), images.shape[2:]):
            return self.network(images.contiguous(memory_format=self.memory_format))

    def example_inputs(self, data: Any) -> tuple[Any, ...]:
        """One image of zeros."""
        info = self.info
        return (torch.zeros(1, info["in_chans"], info["image_size"], info["image_size"]),)

    # training

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """The chosen loss."""
        images, targets = self.mixed(batch)
        logits, loss = self.logits_and_loss(images, targets, batch.weights)
        self.running.add(logits.detach(), targets)
        return {"loss": loss}

    def mixed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images and targets that a loss is of: labels (B,), or where images are mixed soft ones (B, K)."""
        return (batch.inputs, batch.targets) if self.mix is None else self.mix(batch.inputs, batch.targets)

    def make_running(self) -> Running:
        """The training metrics; of mixed samples as the mixup paper counts them."""
        kind = RunningTop if self.mix is None else RunningMixed
        return kind(self.hparams["window"], self.num_classes, self.device)

    def logits_and_loss(self, images: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, K), and the batch's mean loss; a paper whose network has more heads adds their losses here."""
        logits = self(images)
        return logits, self.mean_loss(logits, targets, weights)

    def mean_loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The chosen loss; with weights (B,) ``sum(w * loss) / B``; of no images zero."""
        if not len(targets):
            return logits.sum()
        if weights is None:
            return self.loss(logits, targets)
        each = by_sample(self.loss, logits, targets)
        return (each.flatten(1).mean(1) if each.dim() > 1 else each).mul(weights).sum() / len(weights)

    # evaluation

    def evaluate(self, batch: Batch) -> None:
        """Add a batch to the metrics."""
        logits = self(batch.inputs).float()
        losses = nn.functional.cross_entropy(logits, batch.targets, reduction="none")  # comparable across losses
        self.mean_losses.update(losses.double())
        self.scores.update(logits.softmax(dim=1), batch.targets)

    def compute(self, split: str) -> dict[str, float]:
        """The metrics of a split."""
        values = self.scores.compute()
        self.confusion = values.pop("confusion").cpu()
        results = {"loss": float(self.mean_losses.compute())} | self.metrics_of(values)
        self.mean_losses.reset()
        self.scores.reset()
        return results

    def make_scores(self, num_classes: int) -> MetricCollection:
        """The metrics of a split, a ``confusion`` matrix among them."""
        return _scores(num_classes)

    def metrics_of(self, values: dict[str, Tensor]) -> dict[str, float]:
        """What is recorded of the computed metrics; ``confusion`` is there, too."""
        return {name: float(value) for name, value in values.items()}

    def figures(self, data: Any) -> Iterable[tuple[str, Figure]]:
        """The confusion matrix."""
        assert self.confusion is not None
        yield "confusion_matrix", pictures.confusion_matrix(self.confusion, self.info["class_names"])


class Classifier(Classification):
    """What a paper needs whose contribution is its network alone: ``conf/model/<paper>.yaml`` names this class."""


class ResidualClassifier(Classification):
    """Likewise, over timm's ResNet, whose residual branches would start at zero, which these papers do not."""

    def build_network(self, network: str, num_classes: int, in_chans: int, **options: Any) -> nn.Module:
        """A network from timm's registry."""
        legacy = network.startswith("legacy_")  # timm's older form has no such option
        return super().build_network(
            network, num_classes, in_chans, **options, **({} if legacy else {"zero_init_last": False})
        )


def by_sample(loss: Any, outputs: Tensor, targets: Tensor) -> Tensor:
    """The losses (B, ...) of a loss module that has a ``reduction``, not reduced.

    Raises:
        UserError: the loss has no form by sample.
    """
    if not hasattr(loss, "reduction"):
        raise UserError(f"{type(loss).__name__}: has no loss by sample (reduction), which weighted samples need")
    before, loss.reduction = loss.reduction, "none"
    try:
        each = loss(outputs, targets)
    finally:
        loss.reduction = before
    if each.shape[:1] != targets.shape[:1]:
        raise UserError(f"{type(loss).__name__}: gives no loss by sample with reduction=none")
    return each


class RunningTop(Running):
    """Mean loss and top-1, top-5 accuracy (with more than five classes)."""

    def __init__(self, window: int, num_classes: int, device: torch.device) -> None:
        self.top = [k for k in TOP if k == 1 or num_classes > k]
        super().__init__(window, device, places=self.top[-1])

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count how often the label (B,) was at each place of the ranking that the logits (B, K) give."""
        best = logits.topk(self.top[-1], dim=1).indices  # (B, k)
        self.count((best == labels[:, None]).sum(0))

    def sums(self, counted: list[int]) -> list[int]:
        """Hits among the first k."""
        return [sum(counted[:k]) for k in self.top]

    def scores(self, sums: list[float], units: float) -> dict[str, float]:
        """Their shares."""
        return {f"top{k}": s / units for k, s in zip(self.top, sums, strict=True)}


class RunningMixed(RunningTop):
    """Of mixed samples: a hit counts as much as its class has of the target, ``λ [ŷ = y_a] + (1 - λ) [ŷ = y_b]``.

    So counts the official code of mixup (Zhang et al., ICLR 2018).
    """

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count the share (B, K), or all of the label (B,), that each place of the ranking by logits (B, K) has."""
        best = logits.topk(self.top[-1], dim=1).indices  # (B, k)
        if labels.dim() == 1:
            self.count((best == labels[:, None]).sum(0) * UNIT)
        else:
            self.count((labels.gather(1, best).double().sum(0) * UNIT).round().long())

    def scores(self, sums: list[float], units: float) -> dict[str, float]:
        """Their shares."""
        return super().scores([s / UNIT for s in sums], units)


def _scores(num_classes: int) -> MetricCollection:
    """Top-1, top-5 (with more than five classes), expected calibration error (15 bins) and confusion matrix."""
    scores: dict[str, Any] = {"top1": MulticlassAccuracy(num_classes, average="micro")}
    if num_classes > 5:
        scores["top5"] = MulticlassAccuracy(num_classes, average="micro", top_k=5)
    scores["ece"] = MulticlassCalibrationError(num_classes, n_bins=15)
    scores["confusion"] = MulticlassConfusionMatrix(num_classes)
    return MetricCollection(scores)
