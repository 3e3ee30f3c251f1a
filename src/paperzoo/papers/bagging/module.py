"""Bagging as a module: members trained together, each on a bootstrap sample of its own."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor

from paperzoo.data.interface import Batch
from paperzoo.display import Display
from paperzoo.distributed import from_rank_zero, ranks
from paperzoo.errors import UserError
from paperzoo.papers.bagging.bootstrap import bootstrap_counts, out_of_bag
from paperzoo.papers.bagging.finished import ensemble_of_runs
from paperzoo.tasks.ensembles import EnsembleClassification, counted_samples, on_split


class Bagging(EnsembleClassification):
    """Members whose losses count each training sample as often as it is in their bootstrap sample.

    The counts (M, N) are a function of the seed and of each member's number (``model.first`` and on): a buffer, so that
    they stand in every checkpoint. A member is the same whatever other members are trained beside it.

    Members that are finished runs (``model.members=[run:<id>, ...]``) have no counts, and are not trained.

    ``model.diverged``: a member whose loss is not finite ends the run (stop), or is left out from then on (drop; on one
    rank).
    """

    counts: Tensor | None

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.register_buffer("counts", None if self._of_runs() else self._drawn())
        self._ddp_params_and_buffers_to_ignore.append("counts")  # equal on all ranks: nothing to send at each step
        self.drops = self.hparams["model"].get("diverged") == "drop"

    def _of_runs(self) -> bool:
        return isinstance(self.hparams["model"].get("members"), list)

    def _drawn(self) -> Tensor:
        """The bootstrap counts (M, N)."""
        size = counted_samples(self.info, "bagging")
        network = self.network
        return bootstrap_counts(size, len(network.members), torch.initial_seed(), network.first).to(torch.uint8)

    def make_network(self, options: dict[str, Any]) -> Any:
        """See ``Classification``."""
        own = {name: value for name, value in options.items() if name != "diverged"}
        return ensemble_of_runs(own["members"], self.info, own) if self._of_runs() else super().make_network(own)

    def configure_callbacks(self) -> list[L.Callback]:
        """The out-of-bag estimate, beside those of the layers."""
        if self._callbacks is None:
            self._callbacks = [*super().configure_callbacks(), *([] if self._of_runs() else [OutOfBag()])]
        return self._callbacks

    def weights_of(self, number: int, batch: Batch) -> Tensor | None:
        """How often each sample of the batch is in the member's bootstrap sample, times the weight that it has.

        Raises:
            UserError: the members are finished runs.
        """
        if self.counts is None:
            raise UserError("model.members names finished runs, which are not trained; use procedure=bagging")
        counts = self.counts[number][batch.index].to(batch.inputs)
        return counts if batch.weights is None else counts * batch.weights

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """The loss of each member."""
        numbers = self.network.asked()
        losses = super().losses(batch)
        if not (self.running.looks_at_once or self.drops):
            return losses
        wrong = [n for n, loss in zip(numbers, losses.values(), strict=True) if not bool(loss.isfinite())]
        for number in wrong:
            self._tell(number)
        if not self.drops or ranks() > 1 or len(wrong) == len(numbers):
            return losses
        for number in wrong:
            self._drop(number)
        return {name: loss for (name, loss), n in zip(losses.items(), numbers, strict=True) if n not in wrong}

    def _tell(self, number: int) -> None:
        what = "is left out from now on" if self.drops and ranks() == 1 else "ends the run (model.diverged=stop)"
        name = self.network.first + number
        Display(silent=self.global_rank > 0).line(f"member {name} diverged: its loss is not finite; it {what}")

    @torch.no_grad()
    def _drop(self, number: int) -> None:
        """No vote, no gradient, and zeros in place of what may not be finite."""
        self.network.weigh([0.0 if n == number else w for n, w in enumerate(self.network.weights.tolist())])
        for value in self.network.members[number].state_dict(keep_vars=True).values():
            value.zero_()


class OutOfBag(L.Callback):
    """The accuracy on each training sample of the members that have not seen it, once the last weights are tested."""

    def __init__(self) -> None:
        self.values: dict[str, float] | None = None

    def on_test_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Of the weights that are tested first, the last ones; not where a record is evaluated, which has it."""
        if self.values is None and from_rank_zero(pl_module.place.folder is not None):
            self.values = estimate(pl_module, trainer.datamodule)  # type: ignore[attr-defined]

    def metrics(self) -> dict[str, float]:
        """For the record."""
        return self.values or {}


def estimate(module: Bagging, data: Any) -> dict[str, float]:
    """``oob/top1``, and the share of training samples that some member has not seen (``oob/share``)."""
    numbers, counts = module.network.asked(), module.counts
    assert counts is not None

    def predicted(batch: Batch) -> Tensor:
        probabilities = module.member_logits(batch.inputs).softmax(-1)  # (M, B, K)
        means = out_of_bag(probabilities, counts[numbers][:, batch.index])
        return means.argmax(1).where(means.isfinite().all(1), -1)

    found, labels = on_split(module, data, "train", predicted)
    known = found >= 0
    if not bool(known.any()):
        return {}
    return {"oob/top1": float((found == labels)[known].double().mean()), "oob/share": float(known.double().mean())}
