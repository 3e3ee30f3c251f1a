"""In Defense of the Triplet Loss for Person Re-Identification (Hermans et al., 2017)."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.triplet.network import EmbeddingNet, trinet, trinet_mini
from paperzoo.papers.triplet.triplet_loss import (
    MINING,
    Mined,
    TripletLoss,
    batch_all,
    batch_hard,
    mined,
    semi_hard,
)

__all__ = [
    "MINING",
    "EmbeddingNet",
    "Mined",
    "TripletLoss",
    "batch_all",
    "batch_hard",
    "load_official",
    "mined",
    "semi_hard",
    "trinet",
    "trinet_mini",
]
