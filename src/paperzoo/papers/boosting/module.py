"""Gradient boosting on the softmax loss, as a module: members that are summed, each fitted to what those before lack.

Friedman: Greedy Function Approximation: A Gradient Boosting Machine, Annals of Statistics 29 (2001). F (B, K) is the
sum so far, ν the shrinkage: ``F_m = F_{m-1} + ν h_m``, h_m fitted by least squares to ``-∂L/∂F = t - softmax(F)``.
"""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F

from paperzoo.data.interface import Batch
from paperzoo.tasks.diverging import DivergingClassification
from paperzoo.tasks.diversity import Members
from paperzoo.tasks.task import evaluating

OWN = ("member", "member_network", "members", "voting")  # options that say nothing of a member


def residuals(scores: Tensor, targets: Tensor) -> Tensor:
    """The negative gradient of the softmax cross-entropy of each sample.

    Args:
        scores: F, (B, K).
        targets: (B,) labels, or (B, K) soft ones.

    Returns:
        (B, K): ``t - softmax(F)``.
    """
    soft = targets if targets.dim() == 2 else F.one_hot(targets, scores.shape[1])
    return soft.to(scores) - scores.softmax(1)


class Boosted(DivergingClassification):
    """Boosted members; with ``model.voting=sum`` the member of a stage is fitted to the residuals of those before."""

    def member_groups(self, number: int) -> dict[str, Any]:
        """The configuration of a member's module alone.

        Raises:
            UserError: the member has diverged, or was not trained.
        """
        self.demand_trained(number)
        model = self.hparams["model"]
        return self.groups_of(model["member"], model["member_network"], OWN)

    def own_callbacks(self) -> list[L.Callback]:
        """What the members are to each other."""
        return [Members()]

    def member_losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """The loss of the member that is trained; of all where no stage says which."""
        number = self.network.active
        if self.network.voting != "sum" or number is None:
            return super().member_losses(batch)
        images, targets = self.mixed(batch)
        before = self.scores_before(images, number)
        own = self._each(images)[0]  # h, (B, K)
        if not len(images):  # on a rank without images the mean would be NaN
            return {f"member_{number}": own.sum()}
        each = (own - residuals(before, targets)).square().sum(1) / 2
        self.running.add(before + self.network.weights[number] * own.detach(), targets)
        return {f"member_{number}": each.mean() if batch.weights is None else (each * batch.weights).mean()}

    @torch.no_grad()
    def scores_before(self, images: Tensor, number: int) -> Tensor:
        """F (B, K) of the members before one, in evaluation mode; zeros before the first."""
        network = self.network
        if not number:
            return images.new_zeros(len(images), self.num_classes)
        earlier = list(range(number))
        with evaluating(network):
            logits = network.each(images.contiguous(memory_format=self.memory_format), earlier)
        return network.vote(torch.stack(logits), earlier)

    def evaluate(self, batch: Batch) -> None:
        """Add a batch to the metrics: while a summed member is trained, of the sum up to it."""
        number = self.network.active
        if self.network.voting != "sum" or number is None:
            super().evaluate(batch)
            return
        scores = self.scores_before(batch.inputs, number + 1).float()
        self.mean_losses.update(F.cross_entropy(scores, batch.targets, reduction="none").double())
        self.scores.update(scores.softmax(dim=1), batch.targets)
