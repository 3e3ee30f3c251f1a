"""Strip Pooling: Rethinking Spatial Pooling for Scene Parsing (Hou et al., CVPR 2020)."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.strip_pooling.spnet import SPNet, spnet50, spnet101, spnet_small
from paperzoo.papers.strip_pooling.strips import MixedPoolingModule, StripPoolingModule
from paperzoo.papers.strip_pooling.trunk import SPBottleneck, strip_pooling_small, strip_resnet50, strip_resnet101

__all__ = [
    "MixedPoolingModule",
    "SPBottleneck",
    "SPNet",
    "StripPoolingModule",
    "load_official",
    "spnet50",
    "spnet101",
    "spnet_small",
    "strip_pooling_small",
    "strip_resnet50",
    "strip_resnet101",
]
