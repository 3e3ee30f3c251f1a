"""In Defense of the Triplet Loss for Person Re-Identification (Hermans et al., 2017)."""

from paperzoo.papers.triplet.triplet_loss import (
    MINING,
    Mined,
    TripletLoss,
    batch_all,
    batch_hard,
    mined,
    semi_hard,
)

__all__ = ["MINING", "Mined", "TripletLoss", "batch_all", "batch_hard", "mined", "semi_hard"]
