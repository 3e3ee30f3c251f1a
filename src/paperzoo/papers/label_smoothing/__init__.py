"""Rethinking the Inception Architecture for Computer Vision (Szegedy et al., CVPR 2016), Sec. 7: label smoothing."""

from paperzoo.papers import resnet as _networks  # noqa: F401 - it is tried on these
from paperzoo.papers.label_smoothing.label_smoothing import (
    CONVENTIONS,
    LabelSmoothingCrossEntropy,
    smooth,
)

__all__ = ["CONVENTIONS", "LabelSmoothingCrossEntropy", "smooth"]
