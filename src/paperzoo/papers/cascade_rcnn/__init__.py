"""Cascade R-CNN (Cai and Vasconcelos, CVPR 2018), with masks."""

from paperzoo.papers.cascade_rcnn.network import CascadeMaskRCNN, build, load_official

__all__ = ["CascadeMaskRCNN", "build", "load_official"]
