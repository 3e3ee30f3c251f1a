"""Hybrid Task Cascade for Instance Segmentation (Chen et al., CVPR 2019)."""

from paperzoo.papers.htc.network import HTC, build, load_official

__all__ = ["HTC", "build", "load_official"]
