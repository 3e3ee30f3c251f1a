"""Mask R-CNN (He et al., ICCV 2017)."""

from paperzoo.papers.mask_rcnn.network import MaskRCNN, build, load_official

__all__ = ["MaskRCNN", "build", "load_official"]
