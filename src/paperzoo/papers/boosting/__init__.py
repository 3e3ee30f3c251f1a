"""Multi-class AdaBoost (Zhu, Zou, Rosset, Hastie, Statistics and Its Interface 2009): SAMME."""

from paperzoo.papers.boosting.samme import Samme, member_weight, reweighted, weighted_error

__all__ = ["Samme", "member_weight", "reweighted", "weighted_error"]
