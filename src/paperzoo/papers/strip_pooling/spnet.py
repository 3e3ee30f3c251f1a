"""SPNet: a dilated trunk with strip pooling, two Mixed Pooling Modules, and a label for every pixel."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from paperzoo.errors import UserError
from paperzoo.papers.strip_pooling.strips import UP, MixedPoolingModule, NormLayer
from paperzoo.papers.strip_pooling.trunk import initialise, strip_pooling_small, strip_resnet50, strip_resnet101

DROP = 0.1  # of whole maps before a classifier
PAPER_POOLS, SMALL_POOLS = (20, 12), (5, 3)  # at the paper's maps of 60 pixels, and at 14 to 32

_CFG: dict[str, Any] = {
    "num_classes": 150,  # ADE20K
    "input_size": (3, 480, 480),
    "first_conv": "backbone.conv1",
    "classifier": ("head.score", "aux_head.score"),
}
_SMALL = _CFG | {"num_classes": 11, "input_size": (3, 32, 32)}
default_cfgs = generate_default_cfgs({"spnet_small": _SMALL, "spnet50": _CFG, "spnet101": _CFG})


class Scorer(nn.Sequential):
    """A 3x3 convolution to ``inner`` channels, and the logits of each position; ``num_classes`` 0 ends before them."""

    def __init__(self, chans: int, inner: int, num_classes: int, norm_layer: NormLayer) -> None:
        super().__init__()
        self.conv = nn.Conv2d(chans, inner, 3, padding=1, bias=False)
        self.bn = norm_layer(inner)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout2d(DROP)
        self.score: nn.Module = nn.Conv2d(inner, num_classes, 1) if num_classes else nn.Identity()

    def reset(self, num_classes: int) -> None:
        """Replace the last layer."""
        weight = self.conv.weight
        self.score = (
            nn.Conv2d(self.conv.out_channels, num_classes, 1, device=weight.device, dtype=weight.dtype)
            if num_classes
            else nn.Identity()
        )


class SPNet(nn.Module):
    """The scene parser: trunk, a 1x1 convolution to half the channels, MPMs, a scorer; bilinear to the image's size.

    Args:
        trunk: makes the trunk's features (``features_only=True``); the last two maps are used.
        num_classes: K; 0 leaves the last layers away.
        in_chans: channels of an image.
        mpms: the number of MPMs (paper: 2; its ablation has 0 and 1).
        pool_size, short_range, long_range: of the MPMs.
        auxiliary: whether there is a second scorer on the map before the last, for its loss in training.
        norm_layer: called with a number of channels.
        trunk_options: of the trunk.

    Raises:
        UserError: there are fewer than 0 MPMs, or an option of theirs is not allowed.
    """

    def __init__(
        self,
        trunk: Callable[..., nn.Module],
        num_classes: int = 150,
        in_chans: int = 3,
        mpms: int = 2,
        pool_size: Sequence[int] = PAPER_POOLS,
        short_range: bool = True,
        long_range: bool = True,
        auxiliary: bool = True,
        norm_layer: NormLayer = nn.BatchNorm2d,
        **trunk_options: Any,
    ) -> None:
        super().__init__()
        if mpms < 0:
            raise UserError(f"model.mpms={mpms}: must be at least 0")
        self.num_classes, self.in_chans = num_classes, in_chans
        self.backbone: Any = trunk(features_only=True, in_chans=in_chans, norm_layer=norm_layer, **trunk_options)
        info: Any = self.backbone.feature_info
        before, last = info.channels()[-2:]
        inner = last // 2
        self.num_features, self.head_hidden_size = inner, inner // 2
        self.reduce = nn.Sequential(nn.Conv2d(last, inner, 1, bias=False), norm_layer(inner), nn.ReLU(inplace=True))
        ranges = {"short_range": short_range, "long_range": long_range}
        modules = [MixedPoolingModule(inner, pool_size, norm_layer, UP, **ranges) for _ in range(mpms)]
        self.mpms = nn.Sequential(*modules)
        self.head = Scorer(inner, inner // 2, num_classes, norm_layer)
        self.aux_head = Scorer(before, before // 4, num_classes, norm_layer) if auxiliary else None
        for part in (self.reduce, self.mpms, self.head, self.aux_head):
            if part is not None:
                initialise(part)

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """The last layer, a 1x1 convolution, or its name."""
        return "head.score" if name_only else self.head.score

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer, the auxiliary scorer's as well; ``global_pool`` is timm's and means nothing here."""
        self.num_classes = num_classes
        self.head.reset(num_classes)
        if self.aux_head is not None:
            self.aux_head.reset(num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the trunk's activations twice instead of keeping them."""
        self.backbone.set_grad_checkpointing(enable)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H/8, W/8), rounded up, D half the trunk's channels."""
        return self.mpms(self.reduce(self.backbone(images)[-1]))

    def forward_head(self, features: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Features -> (B, K, *size), or of the features' own size."""
        logits = self.head(features)
        return logits if size is None else F.interpolate(logits, tuple(size), **UP)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K, H, W)."""
        return self.forward_head(self.forward_features(images), images.shape[-2:])

    def forward_both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> (B, K, H, W) of the head and of the auxiliary scorer."""
        assert self.aux_head is not None
        size = images.shape[-2:]
        before, last = self.backbone(images)[-2:]
        logits = self.forward_head(self.mpms(self.reduce(last)), size)
        return logits, F.interpolate(self.aux_head(before), size, **UP)


def _create(name: str, pretrained: bool, options: dict[str, Any], trunk: Callable[..., nn.Module], **plan: Any) -> Any:
    """Build an SPNet, or with ``features_only`` its trunk's maps alone."""
    if options.pop("features_only", False):
        return trunk(features_only=True, **{"output_stride": plan["output_stride"]} | options)
    return build_model_with_cfg(SPNet, name, pretrained, trunk=trunk, **plan | options)


@register_model
def spnet50(pretrained: bool = False, **options: Any) -> nn.Module:
    """SPNet on ResNet-50 of output stride 8; takes SPNet's options, spm="both" and those of timm's ResNet."""
    return _create("spnet50", pretrained, options, strip_resnet50, output_stride=8)


@register_model
def spnet101(pretrained: bool = False, **options: Any) -> nn.Module:
    """SPNet on ResNet-101 of output stride 8."""
    return _create("spnet101", pretrained, options, strip_resnet101, output_stride=8)


@register_model
def spnet_small(pretrained: bool = False, **options: Any) -> nn.Module:
    """SPNet on the small skeleton of output stride 2; takes ``depth``, ``width`` and SPNet's options."""
    plan = {"output_stride": 2, "pool_size": SMALL_POOLS, "num_classes": 11}
    return _create("spnet_small", pretrained, options, strip_pooling_small, **plan)
