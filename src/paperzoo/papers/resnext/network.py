"""The small ResNeXt; the paper's own networks are timm's (``resnext50_32x4d``, ...)."""

from functools import partial
from typing import Any

from timm.models import register_model
from timm.models.resnet import Bottleneck
from torch import nn

from paperzoo.errors import UserError
from paperzoo.networks.small import Norm, small, small_configs

# (base width, cardinality) of Table 2 with the parameters of a bottleneck of one path of 64:
# (64, 1), (40, 2), (24, 4), (14, 8), (4, 32).
CARDINALITY, BASE_WIDTH = 8, 14

default_cfgs = small_configs("resnext_small")


def aggregated_bottleneck(
    chans: int,
    planes: int,
    stride: int,
    downsample: nn.Module | None,
    norm_layer: Norm,
    cardinality: int,
    base_width: int,
) -> nn.Module:
    """A sum of C paths, y = x + sum_i T_i(x) (Eq. 2), as one grouped convolution (Fig. 3c).

    Each path has floor(planes * base_width / 64) channels.

    Raises:
        UserError: a path would have no channel.
    """
    if cardinality < 1 or planes * base_width < 64:
        raise UserError(
            f"model.cardinality={cardinality}, model.base_width={base_width}: a path of {planes} * base_width // 64"
            " channels needs at least one, and there must be a path"
        )
    return Bottleneck(
        chans, planes, stride, downsample, cardinality=cardinality, base_width=base_width, norm_layer=norm_layer
    )


@register_model
def resnext_small(
    pretrained: bool = False, cardinality: int = CARDINALITY, base_width: int = BASE_WIDTH, **options: Any
) -> nn.Module:
    """ResNeXt on the small skeleton."""
    block = partial(aggregated_bottleneck, cardinality=cardinality, base_width=base_width)
    return small("resnext_small", block, pretrained, **options)
