"""Bagging as a module: members trained together, each on a bootstrap sample of its own."""

from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor

from paperzoo.data.interface import Batch
from paperzoo.display import Display
from paperzoo.distributed import ranks
from paperzoo.errors import UserError
from paperzoo.norms.single import explained
from paperzoo.papers.bagging.bootstrap import bootstrap_counts, missing_classes, out_of_bag
from paperzoo.papers.bagging.finished import OWN, ensemble_of_runs
from paperzoo.papers.bagging.ranks import may_be_spread, over_ranks
from paperzoo.papers.bagging.threads import in_threads, may_be_threaded
from paperzoo.tasks.diverging import DivergingClassification
from paperzoo.tasks.diversity import Members
from paperzoo.tasks.ensembles import OnceTested, counted_samples, on_split

SHOWN = 10  # classes that are named in a line


class Bagging(DivergingClassification):
    """Members whose losses count each training sample as often as it is in their bootstrap sample.

    The counts (M, N) are a function of the seed and of each member's number (``model.first`` and on): a buffer, so that
    they stand in every checkpoint. A member is the same whatever other members are trained beside it.

    Members that are finished runs (``model.members=[run:<id>, ...]``) have no counts, and are not trained.
    """

    counts: Tensor | None

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.register_buffer("counts", None if self._of_runs() else self._drawn())
        self._threaded: tuple[int, bool] | None = None  # whether so many members are trained in threads
        self._ddp_params_and_buffers_to_ignore.append("counts")  # equal on all ranks: nothing to send at each step

    def _of_runs(self) -> bool:
        return isinstance(self.hparams["model"].get("members"), list)

    def _drawn(self) -> Tensor:
        """The bootstrap counts (M, N)."""
        size = counted_samples(self.info, "bagging")
        network = self.network
        return bootstrap_counts(size, len(network.members), torch.initial_seed(), network.first).to(torch.uint8)

    def make_network(self, options: dict[str, Any]) -> Any:
        """See ``Classification``."""
        return ensemble_of_runs(self.info, options) if self._of_runs() else super().make_network(options)

    def member_groups(self, number: int) -> dict[str, Any]:
        """The configuration of a member's module alone.

        Raises:
            UserError: the member has diverged, or was not trained.
        """
        self.demand_trained(number)
        model = self.hparams["model"]
        if self._of_runs():
            return dict(model["members"][number]["groups"])
        return self.groups_of(model["member"], model["member_network"], OWN)

    def own_callbacks(self) -> list[L.Callback]:
        """The out-of-bag estimate and what the members are to each other."""
        return [Members()] if self._of_runs() else [OutOfBag(), Members(repetitions=True)]

    def _each(self, images: Tensor) -> list[Tensor]:
        """In training, over ranks or in threads where that may be."""
        numbers = self.network.asked()
        compiled = getattr(self.network, "_compiled_call_impl", None) is not None
        if not self.training or compiled:
            return super()._each(images)
        if ranks() > 1:
            return self._over_ranks(images) if self.network.active is None else super()._each(images)
        members = [self.network.members[number] for number in numbers]
        given = images.contiguous(memory_format=self.memory_format)
        with explained(len(images), images.shape[2:]):
            if self._threaded is None or self._threaded[0] != len(members):
                self._threaded = len(members), may_be_threaded(members, given[:2])
            if self._threaded[1]:
                return in_threads(members, given, torch.get_num_threads())
        return super()._each(images)

    def _over_ranks(self, images: Tensor) -> list[Tensor]:
        """Of all members, those that were left out too, so that the others stay on their ranks; of the rest alone."""
        whole = list(self.network.members)
        if not may_be_spread(whole):
            return super()._each(images)
        found = over_ranks(whole, images, self.memory_format)
        return [found[number] for number in self.network.asked()]

    def weights_of(self, number: int, batch: Batch) -> Tensor | None:
        """How often each sample of the batch is in the member's bootstrap sample, times the weight that it has.

        Raises:
            UserError: the members are finished runs.
        """
        if self.counts is None:
            raise UserError("model.members names finished runs, which are not trained; use procedure=bagging")
        counts = self.counts[number][batch.index].to(batch.inputs)
        return counts if batch.weights is None else counts * batch.weights


class OutOfBag(OnceTested):
    """The accuracy on each training sample of the members that have not seen it, once the last weights are tested."""

    def measured(self, module: Bagging, data: Any) -> dict[str, float]:
        """See ``estimate``."""
        return estimate(module, data)


def estimate(module: Bagging, data: Any) -> dict[str, float]:
    """``oob/top1``, and the share of training samples that some member has not seen (``oob/share``)."""
    numbers, counts = module.network.asked(), module.counts
    assert counts is not None

    def predicted(batch: Batch) -> Tensor:
        probabilities = module.member_logits(batch.inputs).softmax(-1)  # (M, B, K)
        means = out_of_bag(probabilities, counts[numbers][:, batch.index])
        return means.argmax(1).where(means.isfinite().all(1), -1)

    found, labels = on_split(module, data, "train", predicted)
    display = Display(silent=module.global_rank > 0)
    for number, absent in missing_classes(counts.cpu(), labels, module.num_classes).items():
        classes = ", ".join(map(str, absent[:SHOWN])) + (", ..." if len(absent) > SHOWN else "")
        display.line(f"member {module.network.first + number}: no sample of class {classes} in its bootstrap sample")
    known = found >= 0
    if not bool(known.any()):
        display.line("no out-of-bag estimate: no training sample was left out by a member")
        return {}
    return {"oob/top1": float((found == labels)[known].double().mean()), "oob/share": float(known.double().mean())}
