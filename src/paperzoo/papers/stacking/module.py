"""Stacking as a module: networks that are trained, learners that are fitted when these are."""

import pytorch_lightning as L

from paperzoo.papers.stacking.network import Stacked
from paperzoo.tasks.diverging import DivergingClassification
from paperzoo.tasks.diversity import Members


class Stacking(DivergingClassification):
    """Networks trained together. One that diverged is left out of all folds from then on, and of the vote."""

    network: Stacked

    def configure_callbacks(self) -> list[L.Callback]:
        """What the members are to each other, beside those of the layers; some of them alone have no meta-learner."""
        if self._callbacks is None:
            self._callbacks = [*super().configure_callbacks(), Members(staged=False)]
        return self._callbacks
