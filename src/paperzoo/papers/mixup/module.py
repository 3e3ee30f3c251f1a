"""Mixup's module: accuracy under mixup as the paper counts it, and what the network does between training samples."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytorch_lightning as L
import torch
from matplotlib.figure import Figure
from torch import Tensor

from paperzoo.data.interface import Batch, RunData
from paperzoo.distributed import from_rank_zero, gather
from paperzoo.papers.mixup import pictures
from paperzoo.papers.mixup.between import LAMBDAS, Between, between_samples, pairs
from paperzoo.randomness import generator
from paperzoo.tasks.classification import Classification, ResidualClassifier, RunningTop
from paperzoo.tasks.ensembles import evaluating

PAIRS = 32  # as many backward passes as there are classes, at each λ
UNIT = 2**20  # weighted hits are counted in whole parts of so many: their sums are exact in any order


class MixupClassifier(ResidualClassifier):
    """A classifier whose training accuracy is the paper's: of mixed samples ``λ [ŷ = y_a] + (1 - λ) [ŷ = y_b]``.

    With ``mix=none`` it is the usual one. Its record has what the network does between training samples.
    """

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """The chosen loss."""
        images, targets = self.mixed(batch)
        logits, loss = self.logits_and_loss(images, targets, batch.weights)
        self.running.add(logits.detach(), targets)
        return {"loss": loss}

    def make_running(self) -> RunningTop:
        """The training metrics."""
        return RunningMixed(self.hparams["window"], self.num_classes, self.device)

    def configure_callbacks(self) -> list[L.Callback]:
        """The experiment between samples, beside those of the layers."""
        if self._callbacks is None:
            self._callbacks = [*super().configure_callbacks(), BetweenSamples()]
        return self._callbacks


class RunningMixed(RunningTop):
    """Mean loss and top-1, top-5 accuracy, of which a hit counts as much as its class has of the target."""

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


class BetweenSamples(L.Callback):
    """Gradient norm and misses between training images, of the last weights."""

    def __init__(self) -> None:
        self.values: Between | None = None

    def on_test_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Of the weights that are tested first, the last ones; not where a record is evaluated, which has it."""
        if self.values is None and from_rank_zero(pl_module.place.folder is not None):
            self.values = measured(pl_module, trainer.datamodule)  # type: ignore[attr-defined]

    def metrics(self) -> dict[str, float]:
        """``between/<λ>/gradient_norm`` and ``between/<λ>/misses``, for the record."""
        if self.values is None:
            return {}
        return {
            f"between/{weight:.1f}/{name}": float(value)
            for name, column in zip(Between._fields, self.values, strict=True)
            for weight, value in zip(LAMBDAS, column, strict=True)
        }

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """For the run folder."""
        if self.values is not None:
            yield "between_samples", pictures.between(LAMBDAS, *(column.tolist() for column in self.values))


def measured(module: Classification, data: RunData) -> Between | None:
    """Between pairs of training images, as training saw them; None where no two are of different classes."""
    with torch.inference_mode(False):
        images, labels = _training_images(module, data)
        a, b = (index.to(labels.device) for index in pairs(labels.cpu(), PAIRS, generator("between")))
        own = None
        if len(a):
            with evaluating(module):
                found = between_samples(module, images[a], images[b], labels[a], labels[b])
            own = Between(*(column.cpu() for column in found))
    known = [part for part in gather(own) if part is not None]
    return Between(*(torch.stack(column).mean(0) for column in zip(*known, strict=True))) if known else None


def _training_images(module: Classification, data: RunData) -> tuple[Tensor, Tensor]:
    """The first images (N, C, H, W) of an epoch and their labels (N,): about twice ``PAIRS``."""
    images, labels = [], []
    for loaded in data.train_dataloader():
        batch = data.on_after_batch_transfer(data.transfer_batch_to_device(loaded, module.device, 0), 0)
        images.append(batch.inputs.clone())
        labels.append(batch.targets.clone())
        if sum(map(len, labels)) >= 2 * PAIRS:
            break
    return torch.cat(images), torch.cat(labels)
