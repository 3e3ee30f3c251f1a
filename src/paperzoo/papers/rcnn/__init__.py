"""R-CNN: regions with CNN features (Girshick et al., CVPR 2014)."""

from paperzoo.papers.rcnn.network import RCNN, build
from paperzoo.papers.rcnn.regions import warped, windows

__all__ = ["RCNN", "build", "warped", "windows"]
