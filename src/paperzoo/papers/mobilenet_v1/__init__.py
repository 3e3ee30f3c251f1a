"""MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications (Howard et al., 2017)."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.mobilenet_v1.network import (
    MobileNetV1,
    mobilenet_v1,
    mobilenet_v1_small,
    mobilenetv1_025,
    mobilenetv1_050,
    mobilenetv1_075,
)

__all__ = [
    "MobileNetV1",
    "load_official",
    "mobilenet_v1",
    "mobilenet_v1_small",
    "mobilenetv1_025",
    "mobilenetv1_050",
    "mobilenetv1_075",
]
