"""Ensembles of classifiers as one module: members trained together, or one after the other as stages say."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor, nn

from paperzoo.data.interface import Batch, RunData
from paperzoo.distributed import from_rank_zero, gather
from paperzoo.errors import UserError
from paperzoo.networks.ensemble import Ensemble
from paperzoo.norms.single import explained
from paperzoo.tasks.classification import Classification
from paperzoo.tasks.task import evaluating


class EnsembleClassification(Classification):
    """Classification by the vote of members.

    The training loss is the sum of the members' losses, so that each has the gradient that it would have alone; each is
    logged (``train/member_0``, ...). Members share batches, augmentation and mixing; gradients are clipped by the norm
    of each member.
    """

    network: Ensemble

    def weights_of(self, number: int, batch: Batch) -> Tensor | None:
        """The weights (B,) of a batch in the loss of a member; None: all alike."""
        return batch.weights

    def member_logits(self, images: Tensor) -> Tensor:
        """Logits (M, B, K) of the members that are asked."""
        return torch.stack(self._each(images))

    def _each(self, images: Tensor) -> list[Tensor]:
        with explained(len(images), images.shape[2:]):
            return self.network(images.contiguous(memory_format=self.memory_format), apart=True)

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """The loss of each member that is trained."""
        images, targets = self.mixed(batch)
        numbers = self.network.asked()
        logits = self._each(images)
        first = self.network.first
        losses = {
            f"member_{first + number}": self.mean_loss(own, targets, self.weights_of(number, batch))
            for number, own in zip(numbers, logits, strict=True)
        }
        self.running.add(self.network.vote(torch.stack(logits).detach(), numbers), targets)
        return losses

    def evaluate(self, batch: Batch) -> None:
        """Add a batch to the metrics; the loss is that of ``Ensemble.log_probabilities``."""
        numbers = self.network.asked()
        logits = self.member_logits(batch.inputs).float()
        mean = self.network.log_probabilities(logits, numbers)
        self.mean_losses.update(nn.functional.cross_entropy(mean, batch.targets, reduction="none").double())
        self.scores.update(self.network.vote(logits, numbers).softmax(dim=1), batch.targets)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Each member by itself, as if it were alone."""
        if gradient_clip_val:
            for member in self.network.members:
                nn.utils.clip_grad_norm_(member.parameters(), gradient_clip_val)


def on_split(
    module: Classification, data: RunData, split: str, outputs: Callable[[Batch], Tensor]
) -> tuple[Tensor, Tensor]:
    """What ``outputs`` makes of every image of a split, without augmentation, on every rank.

    Args:
        module: goes to the device of the run; its networks are in evaluation mode meanwhile.
        data: set up; of the run, or without a trainer.
        split: train, val or test.
        outputs: from a batch to a result (B, ...).

    Returns:
        The results (N, ...), and the labels (N,), on the CPU.
    """
    whole: Any = data
    make = {"train": data.plain_train_dataloader, "val": whole.val_dataloader, "test": whole.test_dataloader}[split]
    device = data.trainer.strategy.root_device if data.trainer is not None else torch.device("cpu")
    module.to(device)
    found, labels = [], []
    with evaluating(module), torch.no_grad():
        for loaded in make():
            batch = data.on_after_batch_transfer(data.transfer_batch_to_device(loaded, device, 0), 0)
            found.append(outputs(batch).cpu())
            labels.append(batch.targets.cpu())
    ranks = gather((torch.cat(found), torch.cat(labels)))  # each has the samples that follow those of the one before
    return torch.cat([own for own, _ in ranks]), torch.cat([own for _, own in ranks])


def accuracy_of_first(count: int, module: Any, data: RunData) -> float:
    """The accuracy on validation of the vote of the first so many of the members that are asked."""
    numbers = module.network.asked()[:count]

    def predicted(batch: Batch) -> Tensor:
        return module.network.vote(module.member_logits(batch.inputs)[:count], numbers).argmax(1)

    found, labels = on_split(module, data, "val", predicted)
    return float((found == labels).double().mean())


class OnceTested(L.Callback, ABC):
    """Metrics that are taken once, of the weights that are tested first: the last ones. A record evaluated has them."""

    def __init__(self) -> None:
        self.values: dict[str, float] | None = None

    @abstractmethod
    def measured(self, module: Any, data: Any) -> dict[str, float]:
        """The metrics."""

    def on_test_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Measure, where a run is trained."""
        if self.values is None and from_rank_zero(pl_module.place.folder is not None):
            self.values = self.measured(pl_module, trainer.datamodule)  # type: ignore[attr-defined]

    def metrics(self) -> dict[str, float]:
        """For the record."""
        return self.values or {}


def demand_no_stream(config: Any) -> None:
    """Demand data whose training samples are known, each by its place.

    Raises:
        UserError: they are streamed.
    """
    if getattr(config.data, "is_stream", False):
        raise UserError(
            f"data.streaming=true: procedure={config.procedure.name} weighs, chooses or predicts each training sample, "
            "which a stream does not know"
        )


def counted_samples(info: Mapping[str, Any], model: str) -> int:
    """N, the number of training samples, which weights for each need.

    Raises:
        UserError: the data does not say it.
    """
    if "samples" not in info:
        raise UserError(f"model={model}: this data does not say how many training samples it has")
    return int(info["samples"])
