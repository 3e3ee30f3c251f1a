"""The small ResNet; the paper's own networks are timm's (``resnet50``, ...)."""

from typing import Any

from timm.models import register_model
from timm.models.resnet import Bottleneck
from torch import nn

from paperzoo.networks.small import Norm, small, small_configs

default_cfgs = small_configs("resnet_small")


def bottleneck(chans: int, planes: int, stride: int, downsample: nn.Module | None, norm_layer: Norm) -> nn.Module:
    """A bottleneck (Sec. 4.1, Fig. 5 right), with the stride on its 3x3 convolution as in timm and torchvision."""
    return Bottleneck(chans, planes, stride, downsample, norm_layer=norm_layer)


@register_model
def resnet_small(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet on the small skeleton: ``depth`` 9n + 2, ``width`` planes in the first stage."""
    return small("resnet_small", bottleneck, pretrained, **options)
