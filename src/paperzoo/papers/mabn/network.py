"""ResNet with the paper's normalisation in place of its own."""

from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models.resnet import resnet50
from torch import nn

from paperzoo.networks.small import small_configs
from paperzoo.norms import converted
from paperzoo.papers.mabn.mabn import REAL_B, CenConv2d, MABN2d
from paperzoo.papers.resnet import resnet_small

OPTIONS = ("B", "real_B")  # of the layers

default_cfgs = small_configs("mabn_small") | generate_default_cfgs({"mabn_resnet50": {}})


@register_model
def mabn_small(pretrained: bool = False, **options: Any) -> nn.Module:
    """The small ResNet; takes ``B``, the images of a batch on a rank, and ``real_B``, those to simulate."""
    return converted(resnet_small, MABN2d, OPTIONS, pretrained, options, convolution=CenConv2d, B=REAL_B)


@register_model
def mabn_resnet50(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet-50; takes ``B``, the images of a batch on a rank, and ``real_B``, those to simulate."""
    return converted(resnet50, MABN2d, OPTIONS, pretrained, options, convolution=CenConv2d, B=REAL_B)
