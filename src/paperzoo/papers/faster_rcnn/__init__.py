"""Faster R-CNN (Ren et al., NeurIPS 2015), on a feature pyramid."""

from paperzoo.detection.official import load_torchvision as load_official
from paperzoo.papers.faster_rcnn.network import FasterRCNN, build

__all__ = ["FasterRCNN", "build", "load_official"]
