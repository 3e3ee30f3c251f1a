"""ResNet with the paper's normalisation in place of its own."""

from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models.resnet import resnet50
from torch import nn

from paperzoo.networks.small import small_configs
from paperzoo.norms import converted
from paperzoo.papers.resnet import resnet_small
from paperzoo.papers.switchable_norm.switch_norm import SwitchNorm2d

OPTIONS = ("using_bn", "using_moving_average", "unbiased")  # of the layers

default_cfgs = small_configs("switchable_norm_small") | generate_default_cfgs({"switchable_norm_resnet50": {}})


@register_model
def switchable_norm_small(pretrained: bool = False, **options: Any) -> nn.Module:
    """The small ResNet; takes the layer's ``using_bn``, ``using_moving_average`` and ``unbiased``."""
    return converted(resnet_small, SwitchNorm2d, OPTIONS, pretrained, options)


@register_model
def switchable_norm_resnet50(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet-50; takes the layer's ``using_bn``, ``using_moving_average`` and ``unbiased``."""
    return converted(resnet50, SwitchNorm2d, OPTIONS, pretrained, options)
