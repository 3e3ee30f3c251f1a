"""What the theory of ensembles speaks of, measured: diversity, error against size, bias and variance.

Symbols: M members or repetitions, N samples, K classes.
"""

from collections.abc import Iterator
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor
from torch.nn import functional as F

from paperzoo.data.interface import Batch
from paperzoo.display import Display
from paperzoo.tasks.ensembles import OnceTested, on_split


def disagreement(predictions: Tensor) -> Tensor:
    """The share of samples on which two members differ (Ho, 1998; Kuncheva and Whitaker, 2003, of predicted classes).

    Args:
        predictions: (M, N) classes.

    Returns:
        (M, M), symmetric, zeros on the diagonal.
    """
    return (predictions[:, None] != predictions[None]).double().mean(-1)


def double_fault(wrong: Tensor) -> Tensor:
    """The share of samples on which two members are both wrong (Giacinto and Roli, 2001).

    Args:
        wrong: (M, N) bool.

    Returns:
        (M, M), symmetric; a member's own error on the diagonal.
    """
    each = wrong.double()
    return each @ each.T / each.shape[1]


def mean_of_pairs(matrix: Tensor) -> float:
    """The mean over pairs of different members; of one member NaN."""
    first, second = torch.triu_indices(len(matrix), len(matrix), 1)
    return float(matrix[first, second].mean())


def bias_variance_zero_one(predictions: Tensor, labels: Tensor) -> dict[str, float]:
    """The decomposition of the error by Domingos (A Unified Bias-Variance Decomposition, 2000, Theorem 2).

    Without noise: labels are taken for the truth.
    The main prediction is the most frequent class (the smallest of equals). Where it is right, differing from it does
    harm; where it is wrong, only differing towards the truth does good: ``loss = bias + unbiased - biased``.

    Args:
        predictions: (M, N) classes; a repetition is trained on a training set of its own, such as a bootstrap sample.
        labels: (N,).

    Returns:
        ``loss``, the mean error of a repetition; ``bias``, that of the main prediction; ``unbiased``, how often a
        repetition leaves a right main prediction; ``biased``, how often it leaves a wrong one for the truth;
        ``variance``, their difference, the net variance.
    """
    classes = int(max(predictions.max(), labels.max())) + 1
    main = F.one_hot(predictions, classes).sum(0).argmax(-1)  # (N,)
    wrong = main != labels
    leaves = (predictions != main).double().mean(0)
    finds = (predictions == labels).double().mean(0)
    unbiased, biased = float((leaves * ~wrong).mean()), float((finds * wrong).mean())
    return {
        "loss": float((predictions != labels).double().mean()),
        "bias": float(wrong.double().mean()),
        "unbiased": unbiased,
        "biased": biased,
        "variance": unbiased - biased,
    }


def bias_variance_squared(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """The decomposition of the squared error of probabilities, the Brier score (Geman et al., 1992), without noise.

    Args:
        probabilities: (M, N, K), of repetitions as in ``bias_variance_zero_one``.
        labels: (N,).

    Returns:
        ``loss``, the mean over repetitions of ``|p - t|^2``; ``bias``, ``|mean p - t|^2``; ``variance``, the mean of
        ``|p - mean p|^2``: the loss is their sum.
    """
    bias, variance = squared_parts(probabilities, labels)
    return {"loss": float((bias + variance).mean()), "bias": float(bias.mean()), "variance": float(variance.mean())}


def squared_parts(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Bias and variance (N,) of each sample, as in ``bias_variance_squared``."""
    p = probabilities.double()
    mean = p.mean(0)
    bias = (mean - F.one_hot(labels, p.shape[-1])).square().sum(-1)
    return bias, (p - mean).square().sum(-1).mean(0)


class Members(OnceTested):
    """What the members of an ensemble are to each other on the test split, once the last weights are tested.

    Metrics: ``members/top1`` (mean of the members alone), ``members/disagreement`` and ``members/double_fault`` (means
    over pairs), ``members/first_2`` and so on (accuracy of the vote of the first two, ...). Of repetitions also
    ``members/bias``, ``members/variance`` (of the error, Domingos), ``members/brier_bias``, ``members/brier_variance``.

    Args:
        repetitions: whether members are repetitions of one training on training sets drawn alike.
        staged: whether the first so many vote as the whole does.
    """

    def __init__(self, *, repetitions: bool = False, staged: bool = True) -> None:
        super().__init__()
        self.repetitions, self.staged = repetitions, staged

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Error against the number of members."""
        if curve := curve_of(self.values or {}):
            yield "members", picture(curve, (self.values or {})["members/top1"])

    def measured(self, module: Any, data: Any) -> dict[str, float]:
        """The metrics, on the test split."""
        numbers = module.network.asked()
        if len(numbers) == 1:
            Display(silent=module.global_rank > 0).line("one member: its vote is its own, and there is no diversity")

        sizes = sizes_of(len(numbers)) if self.staged else []

        def outputs(batch: Batch) -> Tensor:
            logits = module.member_logits(batch.inputs)  # (M, B, K)
            bias, variance = squared_parts(logits.softmax(-1), batch.targets)
            votes = [module.network.vote(logits[:k], numbers[:k]).argmax(1) for k in sizes]
            return torch.stack([bias, variance, *(each.double() for each in (*logits.argmax(-1), *votes))], dim=1)

        found, labels = on_split(module, data, "test", outputs)
        bias, variance = found[:, :2].mean(0).tolist()
        predictions = found[:, 2 : 2 + len(numbers)].T.long()
        right = (found[:, 2 + len(numbers) :].T.long() == labels).double().mean(1).tolist()
        values = summary(predictions, labels)
        values |= {f"members/first_{k}": v for k, v in zip(sizes, right, strict=True)}
        if self.repetitions and len(numbers) > 1:
            parts = bias_variance_zero_one(predictions, labels)
            values |= {f"members/{name}": parts[name] for name in ("bias", "variance")}
            values |= {"members/brier_bias": bias, "members/brier_variance": variance}
        return values


def sizes_of(members: int, most: int = 32) -> list[int]:
    """1 to M; of many members about ``most`` sizes, M among them."""
    step = -(-members // most)
    return list(range(members, 0, -step))[::-1]


def summary(predictions: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and diversity of predictions (M, N), as ``Members`` names them; of one member its accuracy."""
    wrong = predictions != labels
    values = {"members/top1": 1 - float(wrong.double().mean())}
    if len(predictions) > 1:
        values["members/disagreement"] = mean_of_pairs(disagreement(predictions))
        values["members/double_fault"] = mean_of_pairs(double_fault(wrong))
    return values


def curve_of(values: dict[str, float]) -> dict[int, float]:
    """The error of the vote of the first so many members, from the metrics."""
    sizes = sorted(int(name.rpartition("_")[2]) for name in values if name.startswith("members/first_"))
    return {size: 1 - values[f"members/first_{size}"] for size in sizes}


def picture(errors: dict[int, float], alone: float) -> Figure:
    """Error against the number of members.

    Args:
        errors: of the vote of the first so many.
        alone: mean accuracy of a member.
    """
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(list(errors), [100 * error for error in errors.values()], marker="o", markersize=3, label="vote")
    axes.axhline(100 * (1 - alone), color="grey", linestyle="--", label="mean of the members alone")
    axes.set(xlabel="members that vote", ylabel="error (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure
