"""ResNet with the paper's normalisation in place of its own."""

from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models.resnet import resnet50
from torch import nn

from paperzoo.networks.small import small_configs
from paperzoo.norms import converted
from paperzoo.papers.group_norm.group_norm import GroupNorm
from paperzoo.papers.resnet import resnet_small

OPTIONS = ("groups",)  # of the layers

default_cfgs = small_configs("group_norm_small") | generate_default_cfgs({"group_norm_resnet50": {}})


@register_model
def group_norm_small(pretrained: bool = False, **options: Any) -> nn.Module:
    """The small ResNet; takes ``groups``."""
    return converted(resnet_small, GroupNorm, OPTIONS, pretrained, options)


@register_model
def group_norm_resnet50(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet-50; takes ``groups``."""
    return converted(resnet50, GroupNorm, OPTIONS, pretrained, options)
