"""The paper's networks: ResNet, as timm builds it, with self-calibrated bottlenecks."""

from functools import partial
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import ResNet
from torch import nn

from paperzoo.networks.small import Norm, small, small_configs
from paperzoo.papers.scnet.scconv import SCBottleneck

_CFG: dict[str, Any] = {
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "pool_size": (7, 7),
    "interpolation": "bilinear",  # the authors' evaluation: the shorter side at 256, the centre's 224
    "crop_pct": 0.875,
    "first_conv": "conv1",
    "classifier": "fc",
}
_V1D = _CFG | {"first_conv": "conv1.0"}

default_cfgs = small_configs("scnet_small") | generate_default_cfgs(
    {"scnet50": _CFG, "scnet101": _CFG, "scnet50_v1d": _V1D, "scnet101_v1d": _V1D}
)


def _create(variant: str, layers: tuple[int, ...], pretrained: bool, options: dict[str, Any], **plan: Any) -> nn.Module:
    block_args, rest = _split(options)
    if "stem_width" in plan:
        plan |= {"stem_type": "deep", "avg_down": True}
        block_args["pool_stride"] = True
    plan |= {"block": SCBottleneck, "base_width": 32, "block_args": block_args}
    return build_model_with_cfg(ResNet, variant, pretrained, layers=layers, **plan | rest)


def _split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The block's options (``pooling_rate``, ``identity``, ``pooling``), and the network's."""
    own = {key: value for key, value in options.items() if key in ("pooling_rate", "identity", "pooling")}
    return own, {key: value for key, value in options.items() if key not in own}


@register_model
def scnet50(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SCNet-50: 25,564,584 parameters; takes pooling_rate=4, identity=True, pooling="avg" and timm's options."""
    return _create("scnet50", (3, 4, 6, 3), pretrained, kwargs)


@register_model
def scnet101(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SCNet-101: 44,565,416 parameters."""
    return _create("scnet101", (3, 4, 23, 3), pretrained, kwargs)


@register_model
def scnet50_v1d(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SCNet-50 v1d: stem of three 3x3 convolutions, strides by average pooling; 25,583,816 parameters."""
    return _create("scnet50_v1d", (3, 4, 6, 3), pretrained, kwargs, stem_width=32)


@register_model
def scnet101_v1d(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SCNet-101 v1d: 44,689,192 parameters."""
    return _create("scnet101_v1d", (3, 4, 23, 3), pretrained, kwargs, stem_width=64)


def calibrated_bottleneck(
    chans: int, planes: int, stride: int, downsample: nn.Module | None, norm_layer: Norm, **options: Any
) -> nn.Module:
    """The paper's block as the small skeleton calls it."""
    return SCBottleneck(chans, planes, stride, downsample, norm_layer=norm_layer, **options)


@register_model
def scnet_small(pretrained: bool = False, **options: Any) -> nn.Module:
    """SCNet on the small skeleton: ``depth`` 9n + 2, ``width`` planes in the first stage, and the block's options."""
    own, rest = _split(options)
    return small("scnet_small", partial(calibrated_bottleneck, **own), pretrained, **rest)
