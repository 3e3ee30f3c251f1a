"""The small Res2Net; the paper's own networks are timm's (``res2net50_26w_4s``, ...)."""

from functools import partial
from typing import Any

import timm
from timm.layers import LayerType, get_attn
from timm.models import register_model
from timm.models.res2net import Bottle2neck
from torch import nn

from paperzoo.errors import UserError
from paperzoo.networks.small import Norm, small, small_configs

SCALE, BASE_WIDTH = 4, 26  # 26w x 4s, the paper's default

default_cfgs = small_configs("res2net_small")


def hierarchical_bottleneck(
    chans: int,
    planes: int,
    stride: int,
    downsample: nn.Module | None,
    norm_layer: Norm,
    scale: int,
    base_width: int,
    cardinality: int,
    attn_layer: LayerType | None,
) -> nn.Module:
    """Splits x_1 ... x_s: y_1 = x_1, y_2 = K_2(x_2), y_i = K_i(x_i + y_(i-1)) (Eq. 1; in code the last is x_1).

    Each split has ``cardinality`` groups (above 1: Res2NeXt) of floor(planes * base_width / 64) channels.

    Raises:
        UserError: a split would have no channel.
    """
    if scale < 1 or cardinality < 1 or planes * base_width < 64:
        raise UserError(
            f"model.scale={scale}, model.base_width={base_width}, model.cardinality={cardinality}: a group of a split"
            f" has floor({planes} * base_width / 64) channels and needs one, and there must be a split and a group"
        )
    attention = get_attn(attn_layer)
    return Bottle2neck(
        chans, planes, stride, downsample, cardinality, base_width, scale, norm_layer=norm_layer,
        attn_layer=attention and (lambda channels, **_: attention(channels)),  # any layer of a number of channels
    )  # fmt: skip


@register_model
def res2net_small(
    pretrained: bool = False,
    scale: int = SCALE,
    base_width: int = BASE_WIDTH,
    cardinality: int = 1,
    attn_layer: LayerType | None = None,
    **options: Any,
) -> nn.Module:
    """Res2Net on the small skeleton; ``attn_layer`` ends each residual branch, timm's name (``se``) or a layer."""
    block = partial(
        hierarchical_bottleneck, scale=scale, base_width=base_width, cardinality=cardinality, attn_layer=attn_layer
    )
    return small("res2net_small", block, pretrained, **options)


@register_model
def res2net50_v1b_26w_4s(pretrained: bool = False, **options: Any) -> nn.Module:
    """The official repository's name for what timm calls ``res2net50d``."""
    return timm.create_model("res2net50d", pretrained=pretrained, **options)


@register_model
def res2net101_v1b_26w_4s(pretrained: bool = False, **options: Any) -> nn.Module:
    """The official repository's name for what timm calls ``res2net101d``."""
    return timm.create_model("res2net101d", pretrained=pretrained, **options)
