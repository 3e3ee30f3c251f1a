"""Bagging Predictors (Breiman, Machine Learning 1996): members that are trained on bootstrap samples vote."""

from paperzoo.networks.ensemble import hard_vote, member_state, soft_vote
from paperzoo.papers.bagging.bootstrap import bootstrap_counts, counts_of, missing_classes, out_of_bag
from paperzoo.papers.bagging.network import bagging

__all__ = [
    "bagging",
    "bootstrap_counts",
    "counts_of",
    "hard_vote",
    "member_state",
    "missing_classes",
    "out_of_bag",
    "soft_vote",
]
