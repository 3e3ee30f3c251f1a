"""Stacking as a module: networks that are trained, learners that are fitted when these are."""

from paperzoo.papers.stacking.network import Stacked
from paperzoo.tasks.diverging import DivergingClassification


class Stacking(DivergingClassification):
    """Networks trained together. One that diverged is left out of all folds from then on, and of the vote."""

    network: Stacked
