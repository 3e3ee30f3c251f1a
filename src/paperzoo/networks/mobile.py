"""The frame of MobileNet V1 and V2: timm's, at any width, and for small images without the first stride."""

from functools import partial
from typing import Any

from timm.layers import LayerType
from timm.models import build_model_with_cfg, generate_default_cfgs
from timm.models.efficientnet import EfficientNet, decode_arch_def, round_channels
from torch import nn

from paperzoo.errors import UserError

STEM = 32  # channels of the first convolution at multiplier 1


class Mobile(EfficientNet):
    """timm's network of mobile blocks, its stages in timm's words: ``ir_r2_k3_s2_e6_c24`` is two blocks of a kind.

    Args:
        stages: one a resolution or width; s is the first block's stride, c the channels at multiplier 1.
        multiplier: alpha, of all channels; they are rounded to multiples of 8, and not down by more than a tenth.
        num_features: channels of a last 1x1 convolution; 0 has none.
        stem_stride: of the first convolution; 1 is for images of 28 to 32 pixels.
        options: timm's.

    Raises:
        UserError: the multiplier is not positive.
    """

    def __init__(
        self,
        stages: tuple[str, ...],
        multiplier: float = 1.0,
        num_features: int = 0,
        stem_stride: int = 2,
        act_layer: LayerType = nn.ReLU6,
        **options: Any,
    ) -> None:
        if multiplier <= 0:
            raise UserError(f"model.multiplier={multiplier}: must be above 0")
        super().__init__(
            block_args=decode_arch_def([[stage] for stage in stages]),
            num_features=num_features,
            stem_size=STEM,
            round_chs_fn=partial(round_channels, multiplier=multiplier),
            act_layer=act_layer,
            **options,
        )
        self.conv_stem.stride = (stem_stride, stem_stride)
        for feature in self.feature_info:
            feature["reduction"] = feature["reduction"] * stem_stride // 2  # timm counts on a stride of 2


def mobile(kind: type[Mobile], name: str, pretrained: bool, **options: Any) -> nn.Module:
    """Build a network as timm builds its own, with ``features_only`` and the rest."""
    return build_model_with_cfg(kind, name, pretrained, feature_cfg={"flatten_sequential": True}, **options)


def mobile_configs(small: str, *others: str) -> Any:
    """What timm knows of the networks; there are no weights to download."""
    config = {"first_conv": "conv_stem", "classifier": "classifier"}
    digits = config | {"num_classes": 10, "input_size": (3, 32, 32)}
    full = config | {"num_classes": 1000, "input_size": (3, 224, 224), "pool_size": (7, 7)}
    return generate_default_cfgs({small: digits} | dict.fromkeys(others, full))
