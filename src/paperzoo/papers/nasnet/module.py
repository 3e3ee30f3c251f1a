"""NASNet's module; importing its package has registered the networks."""

from typing import Any

from torch import Tensor, nn

from paperzoo.data.interface import Batch
from paperzoo.norms.single import explained
from paperzoo.tasks.classification import Classification


class NASNet(Classification):
    """Zoph et al., 2018: cells that a search found on CIFAR-10, stacked; a recipe that drops paths on a schedule.

    ``keep`` and ``scheduled`` are of ScheduledDropPath, ``auxiliary`` is the weight of the auxiliary head's loss
    (None leaves the head away); ``cells`` and ``filters`` are of the small network alone.
    """

    def build_network(
        self,
        network: str,
        num_classes: int,
        in_chans: int,
        scheduled: bool = True,
        auxiliary: float | None = None,
        **options: Any,
    ) -> nn.Module:
        """A NASNet-A from timm's registry; options that are None it leaves out, ``scheduled`` is of its training."""
        return super().build_network(network, num_classes, in_chans, auxiliary=auxiliary is not None, **options)

    def on_train_start(self) -> None:
        """Learn how long the schedule is."""
        super().on_train_start()
        self.total_steps = int(self.trainer.estimated_stepping_batches)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Tell ScheduledDropPath where training is."""
        if self.hparams["model"]["scheduled"]:
            self.network.set_progress(self.trainer.global_step / self.total_steps)

    def logits_and_loss(self, images: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The classifier's logits (B, K), and the loss with the auxiliary head's share."""
        share = self.hparams["model"]["auxiliary"]
        if share is None:
            return super().logits_and_loss(images, targets, weights)
        with explained(len(images), images.shape[2:]):
            logits, second = self.network.forward_both(images.contiguous(memory_format=self.memory_format))
        return logits, self.mean_loss(logits, targets, weights) + share * self.mean_loss(second, targets, weights)
