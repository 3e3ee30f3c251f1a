"""SSD: Single Shot MultiBox Detector (Liu et al., ECCV 2016)."""

from paperzoo.detection.official import load_torchvision as load_official
from paperzoo.papers.ssd.hard_negatives import hard_negatives
from paperzoo.papers.ssd.network import SSD, build

__all__ = ["SSD", "build", "hard_negatives", "load_official"]
