"""Boosting, gradient boosting and snapshot ensembles as stages: one training for each member, then the vote.

``SammeStages`` is Algorithm 2 of Zhu et al., 2009, over networks. What a stage comes to is which training samples its
member gets wrong, without augmentation; all weights follow from that, so that a resumed run has the same ones.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paperzoo.data.interface import Batch
from paperzoo.display import Display
from paperzoo.errors import UserError
from paperzoo.papers.boosting.samme import member_weight, reweighted, weighted_error
from paperzoo.procedures import Procedure, Stage, Training
from paperzoo.procedures.counted import Counted
from paperzoo.randomness import generator
from paperzoo.tasks.diverging import demand_one, has_diverged
from paperzoo.tasks.ensembles import accuracy_of_first, demand_no_stream, on_split

CROSS_ENTROPY = "torch.nn.CrossEntropyLoss"


class SammeStages(Procedure):
    """SAMME over networks.

    Args:
        learning_rate: ν, the shrinkage of a member's weight.
        resample: draw a stage's samples by their weights, instead of weighing their losses.
        epochs: of each member; None: ``trainer.max_epochs``.

    It stops after a member without an error, which has weight 1, and before one that is no better than chance, which
    has no vote. The first member is kept in any case: it is what there is. A member that diverged
    (``model.diverged=drop``) has no vote, and boosting goes on from where it was.
    """

    def __init__(self, learning_rate: float = 1.0, resample: bool = False, epochs: int | None = None) -> None:
        self.learning_rate, self.resample, self.epochs = learning_rate, resample, epochs

    def stages(self, config: Any) -> Generator[Stage, Any, None]:
        """A training for each member, and the vote."""
        demand_no_stream(config)
        _demand_voters(config)
        weights: np.ndarray | None = None  # (N,), their sum is 1; None: all alike
        votes: list[float] = []
        errors: list[float] = []
        for number in range(_members(config)):
            found = yield Training(
                f"member {number}",
                epochs=self.epochs,
                prepare=partial(select, number),
                outcome=partial(judge, weights),
                **self._samples(weights, number, config),
            )
            wrong, error = found["wrong"].numpy(), float(found["error"])
            if found.get("diverged"):
                votes.append(0.0)
                errors.append(error)
                continue  # the next member is trained on the same weights
            earlier = sum(vote > 0 for vote in votes)
            vote, last = decide(error, found["classes"], earlier, self.learning_rate)
            votes.append(vote)
            errors.append(error)
            if last:
                break
            weights = next_weights(weights, wrong, vote)
        demand_one(votes)
        yield Vote("vote", prepare=partial(elect, votes), votes=votes, errors=errors)

    def _samples(self, weights: np.ndarray | None, number: int, config: Any) -> dict[str, Any]:
        """The weights of a stage in the loss, their mean 1, or which samples it sees."""
        if weights is None:
            return {}
        if self.resample:
            chance = generator(config.seed, "boosting", number)
            return {"view": torch.multinomial(torch.from_numpy(weights), len(weights), True, generator=chance)}
        double = config.trainer.precision == "64-true"
        scaled = torch.from_numpy(weights * len(weights))
        return {"weights": scaled if double else scaled.float()}


class SnapshotStages(Procedure):
    """A snapshot ensemble: each member goes on from the weights of the one before, over a cosine of its own.

    A cycle has ``trainer.max_epochs`` / ``model.members`` epochs, and the run's schedule without warm-up: with
    ``scheduler=cosine`` the rate over all stages is ``snapshot_factor``.
    """

    def stages(self, config: Any) -> Generator[Stage, Any, None]:
        """A training for each cycle, and the vote of all."""
        members, epochs = _members(config), config.trainer.max_epochs
        _demand_voters(config)
        if epochs % members:
            raise UserError(
                f"procedure=snapshot: trainer.max_epochs={epochs} must be a multiple of model.members={members}, so "
                "that cycles are equally long"
            )
        votes: list[float] = []
        for number in range(members):
            before = next((n for n in reversed(range(number)) if votes[n]), None)
            diverged = yield Training(
                f"cycle {number}",
                epochs=epochs // members,
                prepare=partial(go_on, number, before),
                outcome=partial(has_diverged, number),
                changes={"scheduler": {"warmup_epochs": 0.0, "warmup_start": 0.0}},
            )
            votes.append(0.0 if diverged else 1.0)
        demand_one(votes)
        yield Vote("vote", prepare=partial(elect, votes), votes=votes)


class GradientStages(Procedure):
    """Gradient boosting: each member is fitted to the residuals of the sum of those before.

    Args:
        shrinkage: ν, what a member is multiplied with in the sum.
        epochs: of each member; None: ``trainer.max_epochs``.
    """

    def __init__(self, shrinkage: float = 1.0, epochs: int | None = None) -> None:
        self.shrinkage, self.epochs = shrinkage, epochs

    def stages(self, config: Any) -> Generator[Stage, Any, None]:
        """A training for each member, and the vote."""
        members = _members(config)
        if config.model.model_extra.get("voting") != "sum":
            raise UserError("procedure=gradient_boosting: members are summed; set model.voting=sum")
        _demand_cross_entropy(config)
        votes = [self.shrinkage] * members
        for number in range(members):
            diverged = yield Training(
                f"member {number}",
                epochs=self.epochs,
                prepare=partial(fit_residuals, number, list(votes)),
                outcome=partial(has_diverged, number),
            )
            votes[number] = 0.0 if diverged else self.shrinkage
        demand_one(votes)
        yield Vote("vote", prepare=partial(elect, votes), votes=votes)


def _members(config: Any) -> int:
    members = (config.model.model_extra or {}).get("members")
    if members is None:
        raise UserError(f"procedure={config.procedure.name}: model={config.model.name} has no members to train")
    if not isinstance(members, int):
        raise UserError(f"procedure={config.procedure.name}: model.members names finished runs, which are not trained")
    return members


def _demand_voters(config: Any) -> None:
    """With ``model.voting=sum`` members would be fitted to residuals."""
    if (config.model.model_extra or {}).get("voting") == "sum":
        raise UserError(
            f"procedure={config.procedure.name}: model.voting=sum is of procedure=gradient_boosting; use samme, soft "
            "or hard"
        )


def _demand_cross_entropy(config: Any) -> None:
    """The one loss whose residuals they are."""
    loss = config.loss
    other = next((f"loss.{name}={value}" for name, value in loss.arguments().items() if value), None)
    if loss.target != CROSS_ENTROPY or other:
        raise UserError(
            f"{other or f'loss={loss.name}'}: procedure=gradient_boosting fits members to the residuals of the plain "
            "cross-entropy; leave loss=cross_entropy"
        )


# the parts of a stage


def decide(error: float, classes: int, earlier: int, learning_rate: float) -> tuple[float, bool]:
    """A member's weight in the vote, and whether boosting ends with it; ``earlier`` members have a vote."""
    if error <= 0:
        return 1.0, True
    if error >= 1 - 1 / classes:
        return (0.0 if earlier else 1.0), True
    return member_weight(error, classes, learning_rate), False


def next_weights(weights: np.ndarray | None, wrong: np.ndarray, vote: float) -> np.ndarray:
    """The weights (N,) of the next stage; none falls below the smallest step of float64, as in ``Samme``."""
    before = np.full(len(wrong), 1 / len(wrong)) if weights is None else weights
    after = reweighted(before, wrong, vote)
    return np.clip(after / after.sum(), np.finfo(after.dtype).eps, None)


def select(number: int, module: Any, data: Any) -> None:
    """Train one member alone."""
    module.network.select(number)


def go_on(number: int, before: int | None, module: Any, data: Any) -> None:
    """Train one member alone, from the weights of the last one before that did not diverge, if there is one."""
    members = module.network.members
    if before is not None:
        members[number].load_state_dict(members[before].state_dict())
    module.network.select(number)


def fit_residuals(number: int, votes: list[float], module: Any, data: Any) -> None:
    """Train one member alone, upon the sum of those before."""
    elect(votes, module, data)
    module.network.select(number)


def elect(votes: list[float], module: Any, data: Any) -> None:
    """Let the members vote with these weights, and those that were not trained not at all."""
    module.network.select(None)
    module.network.weigh(votes)


def judge(weights: np.ndarray | None, module: Any, data: Any) -> dict[str, Any]:
    """Which training samples the member that was trained gets wrong, (N,) bool, and its weighted error."""

    def predicted(batch: Batch) -> Tensor:
        return module.member_logits(batch.inputs)[0].argmax(1)

    found, labels = on_split(module, data, "train", predicted)
    wrong = found != labels
    error = weighted_error(wrong.numpy(), np.ones(len(wrong)) if weights is None else weights)
    number, classes = module.network.active, module.num_classes
    if has_diverged(number, module, data):
        _say(data, f"member {number} diverged: it has no vote")
        return {"wrong": wrong, "error": error, "classes": classes, "diverged": True}
    if error <= 0:
        _say(data, f"member {number} makes no error on the training samples: weight 1, and boosting ends")
    elif error >= 1 - 1 / classes:
        earlier = any(n in module.network.voters for n in range(number))
        what = "it has no vote" if earlier else "it is kept, as there is no other"
        _say(data, f"member {number}: error {error:.4g} is no better than chance; {what}, and boosting ends")
    return {"wrong": wrong, "error": error, "classes": classes}


def _say(data: Any, line: str) -> None:
    Display(silent=data.rank > 0).line(line)


@dataclass
class Vote(Counted):
    """The accuracy on validation of the vote of the first member, the first two, and so on: a row for each.

    Args:
        votes: the weights of the members.
        errors: their weighted errors on the training samples, where they have one.
    """

    votes: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tries = sum(vote > 0 for vote in self.votes)

    def evaluate(self, module: Any, data: Any, candidate: int) -> Mapping[str, float]:
        """The accuracy of the first so many members."""
        last = [number for number, vote in enumerate(self.votes) if vote > 0][candidate - 1]
        values = {"members": float(candidate), "weight": self.votes[last]}
        values |= {"error": self.errors[last]} if self.errors else {}
        return values | {"val/top1": accuracy_of_first(candidate, module, data)}
