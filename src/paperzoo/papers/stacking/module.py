"""Stacking as a module: networks that are trained, learners that are fitted when these are."""

from typing import Any

import pytorch_lightning as L

from paperzoo.errors import UserError
from paperzoo.papers.stacking.network import Stacked
from paperzoo.tasks.diverging import DivergingClassification
from paperzoo.tasks.diversity import Members

OWN = ("papers", "learners", "features")  # options that say nothing of a member


class Stacking(DivergingClassification):
    """Networks trained together. One that diverged is left out of all folds from then on, and of the vote."""

    network: Stacked

    def member_groups(self, number: int) -> dict[str, Any]:
        """The configuration of a network's module alone.

        Raises:
            UserError: the member is a learner, or was left out.
        """
        papers = self.hparams["model"]["papers"]
        if number >= len(papers):
            raise UserError(f"member={number}: {type(self.network.members[number]).__name__} is a learner, no network")
        self.demand_trained(number)
        return self.groups_of(papers[number], f"{papers[number]}_small", OWN)

    def own_callbacks(self) -> list[L.Callback]:
        """What the members are to each other; some of them alone have no meta-learner."""
        return [Members(staged=False)]
