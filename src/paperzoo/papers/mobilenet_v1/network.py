"""MobileNet with the paper's options, at its widths, and a small one; timm's is ``mobilenetv1_100``."""

from typing import Any

from timm.models import register_model
from torch import nn

from paperzoo.networks.mobile import Mobile, mobile, mobile_configs

MULTIPLIER = 0.6  # of the small network: resnet_small's multiply-adds
# Table 1: (channels, stride of the first, layers), each layer a 3x3 depthwise and a 1x1 convolution.
STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 2, 6), (1024, 2, 2))
SHALLOW = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 2, 1), (1024, 2, 2))  # five layers of 512 less

default_cfgs = mobile_configs(
    "mobilenet_v1_small", "mobilenet_v1", "mobilenetv1_025", "mobilenetv1_050", "mobilenetv1_075"
)


class MobileNetV1(Mobile):
    """Depthwise separable convolutions in timm's frame.

    Args:
        separable: false has full 3x3 convolutions instead, the paper's baseline.
        shallow: true leaves out the five equal layers of 512 channels.
        options: the frame's.
    """

    def __init__(self, separable: bool = True, shallow: bool = False, **options: Any) -> None:
        kind = "dsa" if separable else "cn"  # timm's words for it and for a plain convolution
        stages = (
            f"{kind}_r{layers}_k3_s{stride}_c{chans}" for chans, stride, layers in (SHALLOW if shallow else STAGES)
        )
        super().__init__(tuple(stages), **options)


@register_model
def mobilenet_v1(pretrained: bool = False, **options: Any) -> nn.Module:
    """What timm calls ``mobilenetv1_100``, with the paper's options: multiplier=1.0, separable=True, shallow=False."""
    return mobile(MobileNetV1, "mobilenet_v1", pretrained, **options)


@register_model
def mobilenetv1_075(pretrained: bool = False, **options: Any) -> nn.Module:
    """MobileNet of three quarters of the channels: 2,585,560 parameters."""
    return mobile(MobileNetV1, "mobilenetv1_075", pretrained, multiplier=0.75, **options)


@register_model
def mobilenetv1_050(pretrained: bool = False, **options: Any) -> nn.Module:
    """MobileNet of half the channels: 1,331,592 parameters."""
    return mobile(MobileNetV1, "mobilenetv1_050", pretrained, multiplier=0.5, **options)


@register_model
def mobilenetv1_025(pretrained: bool = False, **options: Any) -> nn.Module:
    """MobileNet of a quarter of the channels: 470,072 parameters."""
    return mobile(MobileNetV1, "mobilenetv1_025", pretrained, multiplier=0.25, **options)


@register_model
def mobilenet_v1_small(pretrained: bool = False, multiplier: float = MULTIPLIER, **options: Any) -> nn.Module:
    """MobileNet for 28 to 32 pixels: the stem keeps the resolution, so that the last maps have 2x2 pixels."""
    return mobile(MobileNetV1, "mobilenet_v1_small", pretrained, multiplier=multiplier, stem_stride=1, **options)
