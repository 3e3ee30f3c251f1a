"""Members that diverge: named, and left out from then on, or they end the run (``model.diverged=drop|stop``)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from paperzoo.config import compose
from paperzoo.data.interface import Batch
from paperzoo.display import Display
from paperzoo.distributed import max_over_ranks, ranks
from paperzoo.errors import RunError, UserError
from paperzoo.tasks.ensembles import EnsembleClassification
from paperzoo.tasks.making import GROUPS
from paperzoo.tasks.task import NOT_OPTIONS


class DivergingClassification(EnsembleClassification):
    """An ensemble that goes on without a member whose loss is not finite, on any rank, if ``model.diverged=drop``.

    Such a member has no vote (``network.weights``) and no gradient, and zeros in place of what may not be finite.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.drops = self.hparams["model"].get("diverged") == "drop"

    def make_network(self, options: dict[str, Any]) -> Any:
        """See ``Classification``."""
        return super().make_network({name: value for name, value in options.items() if name != "diverged"})

    def groups_of(self, paper: str, network: str, but: Sequence[str]) -> dict[str, Any]:
        """The configuration that a member's module alone is made of: its paper's, and what it shares with the ensemble.

        Args:
            paper: the member's.
            network: its name.
            but: options of the ensemble that are no options of the network.
        """
        own = compose("train", [f"model={paper}"]).model.model_dump(mode="json", by_alias=True)
        model = self.hparams["model"]
        shared = {k: v for k, v in model.items() if k not in (*NOT_OPTIONS, "network", "diverged", *but)}
        groups = {name: self.hparams[name] for name in GROUPS}
        return {**groups, "model": {**own, **shared, "network": network, "checkpoint": None}}

    def demand_trained(self, number: int) -> None:
        """Demand a member that there is something of to take out; it need not have a vote.

        Raises:
            UserError: it has diverged, or was not trained.
        """
        network = self.network
        if number in network.voters:
            return
        weights = any(bool(parameter.any()) for parameter in network.members[number].parameters())
        if number not in network.chosen or not weights:
            raise UserError(f"member={number}: was not trained, as boosting ended before it, or has diverged")

    def member_losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """The loss of each member that is trained, in the order of ``trained``."""
        return super().losses(batch)

    def trained(self) -> list[int]:
        """The members that a batch is for."""
        return self.network.asked()

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """The loss of each member that is trained and has not diverged."""
        numbers, alone = self.trained(), self.network.active is not None
        if alone and self.drops and numbers[0] not in self.network.voters:
            return self._nothing(numbers[0])
        losses = self.member_losses(batch)
        if not (self.running.looks_at_once or self.drops):
            return losses
        found = max_over_ranks([int(not bool(loss.isfinite())) for loss in losses.values()], self.device)
        wrong = [n for n, is_wrong in zip(numbers, found, strict=True) if is_wrong]
        drops = self.drops and (alone or len(wrong) < len(numbers))  # without a member there is nothing to go on with
        for number in wrong:
            self._tell(number, drops)
        if not drops:
            return losses
        for number in wrong:
            self._drop(number)
        left = {name: loss for (name, loss), n in zip(losses.items(), numbers, strict=True) if n not in wrong}
        if wrong and self.running.parts:  # its last values would be taken for new ones
            self.running.parts = {name: v for name, v in self.running.parts.items() if name in left and len(left) > 1}
        return left or self._nothing(numbers[0])

    def _nothing(self, number: int) -> dict[str, Tensor]:
        """A loss that is of no parameter: the optimiser passes over those without a gradient."""
        return {f"member_{self.network.first + number}": torch.zeros((), device=self.device, requires_grad=True)}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The batch's loss; over ranks, whose DDP waits for a gradient of each parameter, of members left out zero."""
        total = super().training_step(batch, batch_idx)
        for member in self._left_out() if self.drops and ranks() > 1 else ():
            total = total + sum((p.sum() * 0 for p in member.parameters() if p.requires_grad), total.new_zeros(()))
        return total

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """No momentum and no weight decay moves what was left out."""
        for member in self._left_out() if self.drops else ():
            for parameter in member.parameters():
                parameter.grad = None

    def _left_out(self) -> list[nn.Module]:
        """The members without a vote."""
        return [member for n, member in enumerate(self.network.members) if n not in self.network.voters]

    def _tell(self, number: int, drops: bool) -> None:
        why = "(model.diverged=stop)" if not self.drops else "as there is no other"
        what = "is left out from now on" if drops else f"ends the run {why}"
        name = self.network.first + number
        Display(silent=self.global_rank > 0).line(f"member {name} diverged: its loss is not finite; it {what}")

    @torch.no_grad()
    def _drop(self, number: int) -> None:
        self.network.weigh([0.0 if n == number else w for n, w in enumerate(self.network.weights.tolist())])
        for value in self.network.members[number].state_dict(keep_vars=True).values():
            value.zero_()


def has_diverged(number: int, module: Any, data: Any) -> bool:
    """Whether a member was left out; what a stage of one member comes to."""
    return number not in module.network.voters


def demand_one(votes: list[float]) -> None:
    """Raise RunError where no member is left."""
    if not any(vote > 0 for vote in votes):
        raise RunError("every member diverged: there is none to vote; lower optimizer.lr")
