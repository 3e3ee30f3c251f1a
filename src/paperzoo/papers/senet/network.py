"""The small SENet and the one of official PyTorch weights; the paper's own are timm's (``seresnet50``, ...).

timm has the paper's networks twice: ``legacy_seresnet50`` with the stride on the first 1x1 convolution, as the authors'
Caffe networks, and ``seresnet50`` with the stride on the 3x3.
"""

from functools import partial
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import Bottleneck, ResNet
from torch import nn

from paperzoo.errors import UserError
from paperzoo.networks.small import Norm, small, small_configs
from paperzoo.papers.senet.se_block import SEBlock

BASE_WIDTH = 60  # of 64: the excitation's parameters come from the convolutions
SE_OPTIONS = ("reduction", "squeeze", "excitation")

_CFG = {
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "pool_size": (7, 7),
    "first_conv": "conv1",
    "classifier": "fc",
}
default_cfgs = small_configs("senet_small") | generate_default_cfgs({"se_resnet50_moskomule": _CFG})


@register_model
def se_resnet50_moskomule(pretrained: bool = False, **options: Any) -> nn.Module:
    """SE-ResNet-50 of moskomule/senet.pytorch, layers without bias: 28,071,976 parameters."""
    plan: dict[str, Any] = {"block": Bottleneck, "layers": (3, 4, 6, 3), "block_args": {"attn_layer": SEBlock}}
    return build_model_with_cfg(ResNet, "se_resnet50_moskomule", pretrained, **plan | options)


def excited_bottleneck(
    chans: int,
    planes: int,
    stride: int,
    downsample: nn.Module | None,
    norm_layer: Norm,
    cardinality: int,
    base_width: int,
    **se_options: Any,
) -> nn.Module:
    """A bottleneck, ResNet's or with cardinality ResNeXt's, with a SEBlock before the sum (Fig. 3 of the paper).

    Raises:
        UserError: a path of the bottleneck would have no channel.
    """
    if cardinality < 1 or planes * base_width < 64:
        raise UserError(
            f"model.cardinality={cardinality}, model.base_width={base_width}: a path of {planes} * base_width // 64"
            " channels needs at least one, and there must be a path"
        )
    return Bottleneck(
        chans,
        planes,
        stride,
        downsample,
        cardinality=cardinality,
        base_width=base_width,
        norm_layer=norm_layer,
        attn_layer=partial(SEBlock, **se_options),
    )


@register_model
def senet_small(
    pretrained: bool = False, cardinality: int = 1, base_width: int = BASE_WIDTH, **options: Any
) -> nn.Module:
    """SE-ResNet on the small skeleton, or with ``cardinality`` SE-ResNeXt; takes the SEBlock's options."""
    own = {key: value for key, value in options.items() if key in SE_OPTIONS}
    rest = {key: value for key, value in options.items() if key not in SE_OPTIONS}
    block = partial(excited_bottleneck, cardinality=cardinality, base_width=base_width, **own)
    return small("senet_small", block, pretrained, **rest)
