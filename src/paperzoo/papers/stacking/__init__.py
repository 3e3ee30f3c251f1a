"""Stacked Generalization (Wolpert, Neural Networks 1992): a learner upon the out-of-fold predictions of others."""

from paperzoo.papers.stacking.features import features
from paperzoo.papers.stacking.learners import LEARNERS, Learner
from paperzoo.papers.stacking.network import Stacked, stacking
from paperzoo.papers.stacking.out_of_fold import Stacking, out_of_fold, stratified_folds

__all__ = ["LEARNERS", "Learner", "Stacked", "Stacking", "features", "out_of_fold", "stacking", "stratified_folds"]
