"""Improving Convolutional Networks with Self-Calibrated Convolutions (Liu et al., CVPR 2020)."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.scnet.network import scnet50, scnet50_v1d, scnet101, scnet101_v1d, scnet_small
from paperzoo.papers.scnet.scconv import SCBottleneck, SCConv

__all__ = [
    "SCBottleneck",
    "SCConv",
    "load_official",
    "scnet50",
    "scnet50_v1d",
    "scnet101",
    "scnet101_v1d",
    "scnet_small",
]
