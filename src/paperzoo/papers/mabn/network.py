"""ResNet with the paper's normalisation in place of its own."""

from collections.abc import Callable
from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models.resnet import resnet50
from torch import nn

from paperzoo.networks.small import small_configs
from paperzoo.norms import convert
from paperzoo.papers.mabn.mabn import REAL_B, CenConv2d, MABN2d
from paperzoo.papers.resnet import resnet_small

OPTIONS = ("B", "real_B")  # of the layers

default_cfgs = small_configs("mabn_small") | generate_default_cfgs({"mabn_resnet50": {}})


@register_model
def mabn_small(pretrained: bool = False, **options: Any) -> nn.Module:
    """The small ResNet; takes ``B``, the images of a batch on a rank, and ``real_B``, those to simulate."""
    return _averaged(resnet_small, pretrained, options)


@register_model
def mabn_resnet50(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet-50; takes ``B``, the images of a batch on a rank, and ``real_B``, those to simulate."""
    return _averaged(resnet50, pretrained, options)


def _averaged(network: Callable[..., nn.Module], pretrained: bool, options: dict[str, Any]) -> nn.Module:
    own = {"B": REAL_B} | {key: options.pop(key) for key in OPTIONS if key in options}
    return convert(network(pretrained, **options), MABN2d, convolution=CenConv2d, **own)
