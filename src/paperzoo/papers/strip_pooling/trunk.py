"""The trunks: ResNet and the small skeleton with strip pooling in their bottlenecks."""

from typing import Any

from timm.layers import LayerType, get_norm_layer
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn

from paperzoo.errors import UserError
from paperzoo.networks.small import Norm, SmallNet, small_configs
from paperzoo.papers.strip_pooling.strips import NormLayer, StripPoolingModule

BASE_WIDTH = 60  # of 64, in the small network: with it resnet_small's multiply-adds, of which strips take few
SPM = ("both", "last", "stage", "none")

_CFG: dict[str, Any] = {
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "pool_size": (7, 7),
    "first_conv": "conv1",
    "classifier": "fc",
}
default_cfgs = small_configs("strip_pooling_small") | generate_default_cfgs(
    {"strip_resnet50": _CFG, "strip_resnet101": _CFG}
)


class SPBottleneck(Bottleneck):
    """timm's bottleneck, its inner map gated by a StripPoolingModule where one is placed: ``y * spm(y)``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.spm: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4 * planes, H / stride, W / stride), rounded up."""
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.aa(self.act2(self.drop_block(self.bn2(self.conv2(y)))))
        if self.spm is not None:
            y = y * self.spm(y)
        y = self.bn3(self.conv3(y))
        if self.se is not None:
            y = self.se(y)
        if self.drop_path is not None:
            y = self.drop_path(y)
        return self.act3(y + (x if self.downsample is None else self.downsample(x)))


def add_strip_pooling(network: nn.Module, where: str, norm_layer: NormLayer) -> None:
    """Place a StripPoolingModule in the bottlenecks of ``layer1``, ``layer2``, ...

    Args:
        where: ``last`` block of each stage, all blocks of the last ``stage``, ``both`` (the paper's) or ``none``.

    Raises:
        UserError: it is none of these.
    """
    if where not in SPM:
        raise UserError(f"model.spm={where}: must be one of {', '.join(SPM)}")
    stages: list[Any] = [stage for name, stage in network.named_children() if name.startswith("layer")]
    for stage in stages:
        for block in stage:
            if (where in ("both", "last") and block is stage[-1]) or (
                where in ("both", "stage") and stage is stages[-1]
            ):
                chans = block.conv3.in_channels
                block.spm = StripPoolingModule(chans, chans, norm_layer)
                initialise(block.spm)


def initialise(module: nn.Module) -> None:
    """He's initialisation for rectifiers, as the trunks'."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class SPResNet(ResNet):
    """timm's ResNet with strip pooling; takes timm's options, ``output_stride=8`` for the paper's dilated form."""

    def __init__(
        self, *args: Any, spm: str = "both", norm_layer: LayerType = nn.BatchNorm2d, zero_init_last: bool = False,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(SPBottleneck, *args, norm_layer=norm_layer, zero_init_last=zero_init_last, **options)
        add_strip_pooling(self, spm, get_norm_layer(norm_layer))


class SmallStripNet(SmallNet):
    """The small skeleton with strip pooling.

    Args:
        spm: see ``add_strip_pooling``.
        base_width: a bottleneck's inner channels per 64 planes.
        output_stride: 4; with 2 the last stage is dilated instead, with 1 the last two are, as timm's ResNet.
        norm_layer, options: of the skeleton.

    Raises:
        UserError: an option's value is not allowed.
    """

    def __init__(
        self,
        *,
        spm: str = "both",
        base_width: int = BASE_WIDTH,
        output_stride: int = 4,
        norm_layer: LayerType = nn.BatchNorm2d,
        **options: Any,
    ) -> None:
        if output_stride not in (1, 2, 4):
            raise UserError(f"output_stride={output_stride}: must be 1, 2 or 4")
        self.base_width = base_width
        super().__init__(self._bottleneck, norm_layer=norm_layer, **options)
        add_strip_pooling(self, spm, get_norm_layer(norm_layer))
        dilation = 1
        for index, stage in enumerate((self.layer2, self.layer3), start=2):
            if 2 ** (index - 1) > output_stride:
                _dilate(stage, dilation)
                dilation *= 2
                self.feature_info[index]["reduction"] = output_stride

    def _bottleneck(
        self, chans: int, planes: int, stride: int, downsample: nn.Module | None, norm_layer: Norm
    ) -> nn.Module:
        if planes * self.base_width < 64:
            raise UserError(f"model.width={planes}: the block's inner width is below 1 channel; raise it")
        return SPBottleneck(chans, planes, stride, downsample, base_width=self.base_width, norm_layer=norm_layer)


def _dilate(stage: Any, before: int) -> None:
    """Take a stage's stride away and spread its 3x3 kernels instead; its first block's as the stage before it."""
    for index, block in enumerate(stage):
        for conv in (part for part in block.modules() if isinstance(part, nn.Conv2d)):
            conv.stride = (1, 1)
            if conv.kernel_size == (3, 3):
                rate = 2 * before if index else before
                conv.dilation = conv.padding = (rate, rate)


def _resnet(name: str, layers: tuple[int, ...], pretrained: bool, options: dict[str, Any]) -> nn.Module:
    return build_model_with_cfg(SPResNet, name, pretrained, layers=layers, **options)


@register_model
def strip_resnet50(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet-50 with strip pooling, as a classifier; takes spm="both" and timm's options."""
    return _resnet("strip_resnet50", (3, 4, 6, 3), pretrained, options)


@register_model
def strip_resnet101(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet-101 with strip pooling, as a classifier."""
    return _resnet("strip_resnet101", (3, 4, 23, 3), pretrained, options)


@register_model
def strip_pooling_small(pretrained: bool = False, **options: Any) -> nn.Module:
    """The small skeleton with strip pooling: ``depth`` 9n + 2, ``width`` planes in the first stage, ``spm``."""
    features = {"out_indices": (0, 1, 2, 3)}
    return build_model_with_cfg(SmallStripNet, "strip_pooling_small", pretrained, feature_cfg=features, **options)
