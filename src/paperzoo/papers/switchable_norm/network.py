"""ResNet with the paper's normalisation in place of its own."""

from collections.abc import Callable
from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models.resnet import resnet50
from torch import nn

from paperzoo.networks.small import small_configs
from paperzoo.norms import convert
from paperzoo.papers.resnet import resnet_small
from paperzoo.papers.switchable_norm.switch_norm import SwitchNorm2d

OPTIONS = ("using_bn", "using_moving_average", "unbiased")  # of the layers

default_cfgs = small_configs("switchable_norm_small") | generate_default_cfgs({"switchable_norm_resnet50": {}})


@register_model
def switchable_norm_small(pretrained: bool = False, **options: Any) -> nn.Module:
    """The small ResNet; takes the layer's ``using_bn``, ``using_moving_average`` and ``unbiased``."""
    return _switched(resnet_small, pretrained, options)


@register_model
def switchable_norm_resnet50(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet-50; takes the layer's ``using_bn``, ``using_moving_average`` and ``unbiased``."""
    return _switched(resnet50, pretrained, options)


def _switched(network: Callable[..., nn.Module], pretrained: bool, options: dict[str, Any]) -> nn.Module:
    own = {key: options.pop(key) for key in OPTIONS if key in options}
    return convert(network(pretrained, **options), SwitchNorm2d, **own)
