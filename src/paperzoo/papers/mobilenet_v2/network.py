"""MobileNet V2 with the paper's options, and a small one; timm's are ``mobilenetv2_100`` and others."""

from typing import Any

from timm.models import register_model
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual
from timm.models.efficientnet import round_channels
from torch import nn

from paperzoo.errors import UserError
from paperzoo.networks.mobile import Mobile, mobile, mobile_configs

MULTIPLIER = 0.75  # of the small network: resnet_small's multiply-adds
EXPANSION = 6  # t
LAST = 1280  # channels before the classifier: they do not shrink with the width
# Table 2: (c, n, s) at expansion t; before them a block without expansion to 16 channels.
STAGES = ((24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))

default_cfgs = mobile_configs("mobilenet_v2_small", "mobilenet_v2")


class MobileNetV2(Mobile):
    """Inverted residuals in timm's frame.

    Args:
        expansion: t, the times that a block's inner channels are those of its input.
        residual: false leaves the shortcuts away (an ablation of the paper's).
        linear: false activates what the blocks put out, too (likewise).
        options: the frame's.

    Raises:
        UserError: the expansion is below 1.
    """

    def __init__(
        self,
        expansion: float = EXPANSION,
        residual: bool = True,
        linear: bool = True,
        multiplier: float = 1.0,
        **options: Any,
    ) -> None:
        if expansion < 1:
            raise UserError(f"model.expansion={expansion}: must be at least 1")
        skip = "" if residual else "_noskip"
        stages = (f"ir_r{n}_k3_s{s}_e{expansion}_c{c}{skip}" for c, n, s in STAGES)
        last = round_channels(LAST, max(1.0, multiplier))
        super().__init__((f"ds_r1_k3_s1_c16{skip}", *stages), multiplier, last, **options)
        if not linear:
            for block in self.modules():
                if isinstance(block, DepthwiseSeparableConv | InvertedResidual):
                    narrow = block.bn3 if isinstance(block, InvertedResidual) else block.bn2
                    narrow.act = type(block.bn1.act)(inplace=True)


@register_model
def mobilenet_v2(pretrained: bool = False, **options: Any) -> nn.Module:
    """What timm calls ``mobilenetv2_100``, with the paper's options: multiplier, expansion, residual, linear."""
    return mobile(MobileNetV2, "mobilenet_v2", pretrained, **options)


@register_model
def mobilenet_v2_small(pretrained: bool = False, multiplier: float = MULTIPLIER, **options: Any) -> nn.Module:
    """MobileNet V2 for 28 to 32 pixels: the stem keeps the resolution, so that the last maps have 2x2 pixels."""
    return mobile(MobileNetV2, "mobilenet_v2_small", pretrained, multiplier=multiplier, stem_stride=1, **options)
