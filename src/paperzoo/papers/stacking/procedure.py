"""Stacking as stages: a training without each fold, one on all samples, and the meta-learner."""

import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from paperzoo.data.interface import Batch
from paperzoo.display import Display
from paperzoo.errors import UserError
from paperzoo.papers.stacking.learners import NEVER
from paperzoo.papers.stacking.network import side_by_side
from paperzoo.papers.stacking.out_of_fold import stratified_folds
from paperzoo.procedures import Procedure, Stage, Training
from paperzoo.procedures.counted import Counted
from paperzoo.tasks.ensembles import demand_no_stream, on_split


class StackingStages(Procedure):
    """Out-of-fold predictions of networks, and logistic regression upon them.

    In stage j all members are trained on the samples outside fold j, from the weights that the run begins with, and
    predict fold j; then they are trained on all samples. No sample is predicted by a network that has seen it. Learners
    (``model.learners``) are fitted on the same samples once the networks are trained, whose features they may take.

    Args:
        folds: J.
        c: inverse strength of the meta-learner's penalty, scikit-learn's C.
        epochs: of each training; None: ``trainer.max_epochs``.
    """

    def __init__(self, folds: int = 5, c: float = 1.0, epochs: int | None = None) -> None:
        self.folds, self.c, self.epochs = folds, c, epochs
        self.beginning: dict[str, Tensor] = {}  # the weights that the run begins with

    def stages(self, config: Any) -> Generator[Stage, Any, None]:
        """The folds, a training without each of them, one on all, the meta-learner."""
        if "papers" not in (config.model.model_extra or {}):
            raise UserError(f"procedure={config.procedure.name}: model={config.model.name} has no members to stack")
        demand_no_stream(config)
        dealt = yield Counted("folds", prepare=self._keep, outcome=partial(deal, self.folds, config.seed))
        found: list[Tensor] = []
        left_out: list[int] = []
        for number in range(self.folds):
            held_out = dealt["folds"] == number
            predicted = yield Training(
                f"without fold {number}",
                epochs=self.epochs,
                prepare=partial(self._begin_again, list(left_out)),
                outcome=partial(predict, held_out, config.seed),
                view=torch.nonzero(~held_out).flatten(),
            )
            found.append(predicted["probabilities"])
            left_out = predicted["left_out"]
        everything = torch.ones_like(dealt["folds"], dtype=torch.bool)
        left_out = yield Training(
            "all",
            epochs=self.epochs,
            prepare=partial(self._begin_again, list(left_out)),
            outcome=partial(fit_learners, everything, config.seed),
        )
        features = join(found, dealt["folds"])
        features.unflatten(1, (-1, dealt["classes"]))[:, left_out] = 0  # a column of zeros has no weight
        yield Measured("meta", prepare=partial(fit, self.c, features, dealt["labels"]))

    def _keep(self, module: Any, data: Any) -> None:
        self.beginning = {name: value.detach().clone() for name, value in module.network.state_dict().items()}

    def _begin_again(self, left_out: list[int], module: Any, data: Any) -> None:
        """All members as they were; those that diverged in a stage before stay out."""
        network = module.network
        network.load_state_dict(self.beginning)
        network.weigh([float(number not in left_out) for number in range(len(network.members))])


def deal(folds: int, seed: int, module: Any, data: Any) -> dict[str, Any]:
    """The fold and the label (N,) of each training sample, and the number of classes."""
    labels, _ = on_split(module, data, "train", lambda batch: batch.targets)
    if len(labels) < folds:
        raise UserError(f"procedure.folds={folds}: must be at most the {len(labels)} training samples")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        dealt = stratified_folds(labels.numpy(), folds, seed)
    for warning in said:
        Display(silent=data.rank > 0).line(str(warning.message))
    return {"folds": torch.from_numpy(dealt), "labels": labels, "classes": module.num_classes}


def fit_learners(seen: Tensor, seed: int, module: Any, data: Any) -> list[int]:
    """Fit the learners of level 0 on the training samples (N,) that are marked, without augmentation.

    Returns:
        The members that are left out, since they diverged.

    Raises:
        UserError: these are of one class alone.
    """
    network = module.network
    left_out = [number for number in range(len(network.members)) if number not in network.voters]
    if not network.learners:
        return left_out
    rows, labels = on_split(module, data, "train", lambda batch: network.rows(batch.inputs))
    for number, learner in enumerate(network.learners, network.networks):
        try:
            learner.fit(rows[seen].numpy(), labels[seen].numpy(), seed)
        except ValueError as error:
            raise UserError(f"member {number}, {type(learner).__name__}: {error}") from None
    return left_out


def predict(held_out: Tensor, seed: int, module: Any, data: Any) -> dict[str, Any]:
    """The members' probabilities (n, M K) of the samples that they were not trained or fitted on; who is left out."""
    left_out = fit_learners(~held_out, seed, module, data)
    network = module.network
    columns = torch.arange(len(network.members) * module.num_classes).unflatten(0, (-1, module.num_classes))
    columns = columns[network.asked()].flatten()  # a member that is left out has zeros

    def probabilities(batch: Batch) -> Tensor:
        own = side_by_side(module.member_logits(batch.inputs))
        whole = own.new_zeros(len(own), len(network.members) * module.num_classes)
        return whole.index_copy(1, columns.to(own.device), own)

    found, _ = on_split(module, data, "train", probabilities)
    return {"probabilities": found[held_out].clone(), "left_out": left_out}


def join(found: list[Tensor], folds: Tensor) -> Tensor:
    """The out-of-fold predictions (N, M K) in the order of the samples."""
    whole = found[0].new_empty(len(folds), found[0].shape[1])
    for number, own in enumerate(found):
        whole[folds == number] = own
    return whole


def fit(c: float, features: Tensor, labels: Tensor, module: Any, data: Any) -> None:
    """Fit the meta-learner and give it to the network."""
    weight, bias = regression(features.double().numpy(), labels.numpy(), module.num_classes, c)
    network = module.network
    with torch.no_grad():
        network.meta_weight.copy_(torch.from_numpy(weight))
        network.meta_bias.copy_(torch.from_numpy(bias))
        network.fitted.fill_(True)
    network.look()


def regression(features: np.ndarray, labels: np.ndarray, classes: int, c: float) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression: weights (K, D) and biases (K,), also of classes without a sample."""
    meta = LogisticRegression(C=c, max_iter=1000).fit(features, labels)
    weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, NEVER)
    if len(meta.classes_) == 2:  # one row: of the second class against the first
        weight[meta.classes_[1]], bias[meta.classes_] = meta.coef_[0], [0.0, meta.intercept_[0]]
    else:
        weight[meta.classes_], bias[meta.classes_] = meta.coef_, meta.intercept_
    return weight, bias


@dataclass
class Measured(Counted):
    """One try: the accuracy on validation."""

    tries: int = 1

    def evaluate(self, module: Any, data: Any, candidate: int) -> Mapping[str, float]:
        """Of the meta-learner, and of each member alone."""
        found, labels = on_split(module, data, "val", lambda batch: module.member_logits(batch.inputs).transpose(0, 1))
        logits = found.transpose(0, 1)  # (M, B, K)
        members = (logits.argmax(-1) == labels).double().mean(1).tolist()
        network = module.network
        numbers = network.asked()
        vote = network.vote(logits.to(network.meta_bias), numbers).argmax(1).cpu()
        values = {f"member_{number}/val/top1": value for number, value in zip(numbers, members, strict=True)}
        return values | {"val/top1": float((vote == labels).double().mean())}
