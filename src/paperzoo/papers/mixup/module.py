"""Mixup's module: what a network does between training samples."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as L
import torch
from matplotlib.figure import Figure
from torch import Tensor

from paperzoo.data.interface import RunData
from paperzoo.distributed import from_rank_zero, gather
from paperzoo.papers.mixup import pictures
from paperzoo.papers.mixup.between import LAMBDAS, Between, between_samples, pairs
from paperzoo.randomness import generator
from paperzoo.tasks.classification import Classification, ResidualClassifier
from paperzoo.tasks.ensembles import evaluating

PAIRS = 32  # as many backward passes as there are classes, at each λ


class MixupClassifier(ResidualClassifier):
    """A classifier whose record has what the network does between training samples."""

    def own_callbacks(self) -> list[L.Callback]:
        """The experiment between samples."""
        return [BetweenSamples()]


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
