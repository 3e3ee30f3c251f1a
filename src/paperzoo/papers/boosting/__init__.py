"""Multi-class AdaBoost (Zhu, Zou, Rosset, Hastie, Statistics and Its Interface 2009): SAMME, and snapshot ensembles."""

from paperzoo.papers.boosting.network import boosting
from paperzoo.papers.boosting.samme import Samme, member_weight, reweighted, weighted_error
from paperzoo.papers.boosting.snapshot import snapshot_factor

__all__ = ["Samme", "boosting", "member_weight", "reweighted", "snapshot_factor", "weighted_error"]
