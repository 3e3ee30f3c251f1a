"""Sequences with one answer at their end: a class, or numbers. What counts is what was remembered until then."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from paperzoo import pictures
from paperzoo.data.interface import Batch
from paperzoo.metric import Metric
from paperzoo.tasks import pictures as drawn
from paperzoo.tasks.classification import RunningTop, by_sample
from paperzoo.tasks.running import Running
from paperzoo.tasks.task import Task

CORRECT = 0.04  # an answer is correct whose error is below this (Hochreiter and Schmidhuber, 1997)
UNIT = 2**20  # training counts squared errors in whole parts of so many: their sums are exact in any order
LARGEST = 2**20  # and a batch's at most so much, so that a run that diverges does not overflow


class Sequence(Task):
    """A network from sequences (B, T, I) to answers (B, K). ``loss=task`` is the task's own."""

    unit: ClassVar = "sequence"

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if self.loss is None:
            self.loss = self.own_loss()

    @abstractmethod
    def build_network(self, network: str, inputs: int, outputs: int, **options: Any) -> nn.Module:
        """A network of I inputs and K outputs."""

    @abstractmethod
    def own_loss(self) -> nn.Module:
        """What is trained on with ``loss=task``; has a ``reduction``."""

    @abstractmethod
    def count(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a training batch to the training metrics."""

    def make_network(self, options: dict[str, Any]) -> nn.Module:
        """See ``build_network``."""
        return self.build_network(inputs=self.info["inputs"], outputs=self.info["outputs"], **options)

    def forward(self, sequences: Tensor) -> Tensor:
        """Answers (B, K), at least in float32: under autocast the last layer gives fewer digits."""
        answers = self.network(sequences)
        return answers.float() if answers.dtype in (torch.float16, torch.bfloat16) else answers

    def example_inputs(self, data: Any) -> tuple[Any, ...]:
        """A sequence of zeros."""
        return (torch.zeros(1, self.info["length"], self.info["inputs"]),)

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """The chosen loss, a mean over sequences."""
        outputs = self(batch.inputs)
        self.count(outputs.detach(), batch.targets)
        if batch.weights is None:
            return {"loss": self.loss(outputs, batch.targets)}
        each = by_sample(self.loss, outputs, batch.targets)
        each = each.flatten(1).mean(1) if each.dim() > 1 else each
        return {"loss": (batch.weights * each).sum() / len(batch.weights)}


class SequenceClassification(Sequence):
    """Sequences of classes."""

    metrics: ClassVar = (Metric("top1", percent=True, label="top-1 accuracy"),)

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        classes = self.info["outputs"]
        self.scores = MetricCollection({
            "top1": MulticlassAccuracy(classes, average="micro"), "confusion": MulticlassConfusionMatrix(classes),
        })  # fmt: skip
        self.confusion: Tensor | None = None  # (K, K) of the last pass: rows are the truth

    def own_loss(self) -> nn.Module:
        """Cross-entropy."""
        return nn.CrossEntropyLoss()

    def make_running(self) -> Running:
        """The training metrics."""
        return RunningTop(self.hparams["window"], self.info["outputs"], self.device)

    def count(self, outputs: Tensor, targets: Tensor) -> None:
        """How often the class is at each place."""
        self.running.add(outputs, targets)

    def evaluate(self, batch: Batch) -> None:
        """Add a batch to the metrics; the loss is plain cross-entropy."""
        logits = self(batch.inputs).float()
        losses = nn.functional.cross_entropy(logits, batch.targets, reduction="none")
        self.mean_losses.update(losses.double())
        self.scores.update(logits, batch.targets)

    def compute(self, split: str) -> dict[str, float]:
        """The metrics of a split."""
        values = self.scores.compute()
        self.confusion = values["confusion"].cpu()
        results = {"loss": float(self.mean_losses.compute()), "top1": float(values["top1"])}
        self.mean_losses.reset()
        self.scores.reset()
        return results

    def figures(self, data: Any) -> Iterable[tuple[str, Figure]]:
        """The confusion matrix."""
        assert self.confusion is not None
        yield "confusion_matrix", pictures.confusion_matrix(self.confusion, self.info["class_names"])


class SequenceRegression(Sequence):
    """Sequences of numbers: mean squared error, and the share of answers whose error is below ``CORRECT``."""

    metrics: ClassVar = (
        Metric("mse", "min", label="mean squared error"),
        Metric("correct", percent=True, label=f"answers within {CORRECT}"),
    )

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.right = MeanMetric(nan_strategy="disable")
        self.seen: list[tuple[Tensor, Tensor]] = []  # answers and targets of the pass that is under way
        self.last: tuple[Tensor, Tensor] | None = None  # of the last pass, on this rank

    def own_loss(self) -> nn.Module:
        """The mean squared error."""
        return nn.MSELoss()

    def make_running(self) -> Running:
        """The training metrics."""
        return RunningErrors(self.hparams["window"], self.device, places=2)

    def count(self, outputs: Tensor, targets: Tensor) -> None:
        """The squared errors, and how many answers are correct."""
        errors = (outputs - targets).double()
        squares = errors.square().mean(1).sum().nan_to_num(LARGEST, posinf=LARGEST).clamp(max=LARGEST)
        right = (errors.abs() < CORRECT).all(1).sum()
        self.running.count(torch.stack([(squares * UNIT).round().long(), right]))

    def on_validation_epoch_start(self) -> None:
        """Begin with nothing seen."""
        super().on_validation_epoch_start()
        self.right.set_dtype(torch.float64)
        self.seen = []

    def evaluate(self, batch: Batch) -> None:
        """Add a batch to the metrics."""
        answers = self(batch.inputs).double()
        errors = answers - batch.targets
        self.mean_losses.update(errors.square().mean(1))
        self.right.update((errors.abs() < CORRECT).all(1).double())
        self.seen.append((answers.cpu(), batch.targets.cpu()))

    def compute(self, split: str) -> dict[str, float]:
        """The metrics of a split; the loss is the mean squared error."""
        mse, right = float(self.mean_losses.compute()), float(self.right.compute())
        self.mean_losses.reset()
        self.right.reset()
        answers, targets = zip(*self.seen, strict=True) if self.seen else ((), ())
        self.last = (torch.cat(answers), torch.cat(targets)) if answers else None
        return {"loss": mse, "mse": mse, "correct": right}

    def figures(self, data: Any) -> Iterable[tuple[str, Figure]]:
        """Answers over what is right."""
        if self.last is not None:
            yield "answers", drawn.answers(*self.last)


class RunningErrors(Running):
    """The mean squared error and the share of correct answers."""

    def scores(self, sums: list[float], units: float) -> dict[str, float]:
        """Of sums over sequences."""
        return {"mse": sums[0] / UNIT / units, "correct": sums[1] / units}
