"""MobileNetV2: Inverted Residuals and Linear Bottlenecks (Sandler et al., CVPR 2018)."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.mobilenet_v2.network import MobileNetV2, mobilenet_v2, mobilenet_v2_small

__all__ = ["MobileNetV2", "load_official", "mobilenet_v2", "mobilenet_v2_small"]
