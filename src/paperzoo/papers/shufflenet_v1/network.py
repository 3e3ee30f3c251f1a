"""The frame of both ShuffleNets, and the networks of V1: every number of groups and width of the paper.

Names are those of the authors' state dicts, as in megvii-model/ShuffleNet-Series.
"""

from collections.abc import Callable
from typing import Any

from timm.layers import LayerType, SelectAdaptivePool2d, get_norm_layer
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from torch import Tensor, nn

from paperzoo.errors import UserError
from paperzoo.networks.small import Norm, small, small_configs
from paperzoo.norms import is_norm, needs_two
from paperzoo.papers.shufflenet_v1.unit import BOTTLENECK, ShuffleUnit

Unit = Callable[[int, int, int, Norm], nn.Module]  # from (channels in, channels out, stride, norm_layer)
REPEATS = (4, 8, 4)  # units of stages 2, 3, 4 (Table 1)
REDUCTION = 32  # pixels of an image's side per pixel of the last maps

CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # of stage 2 by groups; each stage doubles them (Table 1)
STEM = {0.5: 12, 1.0: 24, 1.5: 24, 2.0: 48}  # by width
WIDTHS = {1: 16, 2: 22, 3: 27, 4: 32, 8: 40}  # of the small network by groups: equal cost, as in Table 1
GROUPS, DEPTH = 3, 29


class ShuffleNet(nn.Module):
    """A stem that halves the image twice, three stages that begin with a stride, a classifier without bias.

    Args:
        unit: makes the paper's unit.
        stem: channels of the first convolution.
        stages: channels of stages 2, 3 and 4.
        last: channels of a pointwise convolution before the pooling (V2); None leaves it away.
        num_classes: 0 leaves the classifier away.
        in_chans: channels of the images.
        global_pool: timm's name of the pooling before the classifier; "" leaves it away, without classifier alone.
        drop_rate: dropout before the classifier.
        norm_layer: of the stem and the units.
    """

    def __init__(
        self,
        unit: Unit,
        stem: int,
        stages: tuple[int, int, int],
        last: int | None = None,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        norm_layer: LayerType = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        norm_layer = get_norm_layer(norm_layer)
        self.grad_checkpointing = False
        self.first_conv = _convolution(in_chans, stem, 3, 2, norm_layer)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.feature_info = [
            {"num_chs": stem, "reduction": 2, "module": "first_conv.2"},
            {"num_chs": stem, "reduction": 4, "module": "maxpool"},
        ]
        units: list[nn.Module] = []
        chans = stem
        for stage, (oup, repeats) in enumerate(zip(stages, REPEATS, strict=True)):
            for index in range(repeats):
                units.append(unit(chans, oup, 1 if index else 2, norm_layer))
                chans = oup
            self.feature_info.append({"num_chs": oup, "reduction": 8 << stage, "module": f"features.{len(units) - 1}"})
        self.features = nn.Sequential(*units)
        self.conv_last = nn.Identity() if last is None else _convolution(chans, last, 1, 1, norm_layer)
        self.num_features = self.head_hidden_size = last or chans
        self.num_classes = num_classes
        self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=bool(global_pool))
        self.drop = nn.Dropout(drop_rate)
        self.classifier = self._classifier()
        self._initialise()

    def _classifier(self) -> nn.Sequential:
        width = self.num_features * self.global_pool.feat_mult()
        return nn.Sequential(nn.Linear(width, self.num_classes, bias=False) if self.num_classes else nn.Identity())

    def _initialise(self) -> None:
        """As in the authors' code for V1: deviation 1 / (C_in / groups), 0.01 at both ends, shifts of 0.0001."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                deviation = 0.01 if name.startswith("first_conv") else 1 / module.weight.shape[1]
                nn.init.normal_(module.weight, 0, deviation)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
            elif is_norm(module) and isinstance(shift := getattr(module, "bias", None), Tensor):
                nn.init.constant_(shift, 0.0001)

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """The last layer, or its name."""
        return "classifier.0" if name_only else self.classifier[0]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer."""
        weight: Any = self.first_conv[0].weight
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=bool(global_pool))
        self.classifier = self._classifier().to(weight.device, weight.dtype)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute activations twice instead of keeping them."""
        self.grad_checkpointing = enable

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_features, H / 32, W / 32), rounded up."""
        demand_statistics(self, images)
        x = self.maxpool(self.first_conv(images))
        x = checkpoint_seq(self.features, x) if self.grad_checkpointing else self.features(x)
        return self.conv_last(x)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features -> (B, num_classes), or the pooled features."""
        pooled = self.drop(self.global_pool(features))  # (B, num_features)
        return pooled if pre_logits else self.classifier(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_classes)."""
        return self.forward_head(self.forward_features(images))


def _convolution(inp: int, oup: int, kernel: int, stride: int, norm_layer: Norm) -> nn.Sequential:
    conv = nn.Conv2d(inp, oup, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, norm_layer(oup), nn.ReLU(inplace=True))


def demand_statistics(network: nn.Module, images: Tensor) -> None:
    """Batch normalisation cannot train on one number per channel: say what to change.

    Raises:
        UserError: a batch of one image whose last maps have one pixel, in training mode.
    """
    alone = network.training and len(images) == 1 and max(images.shape[2:]) <= REDUCTION
    if alone and any(map(needs_two, network.modules())):
        high, wide = images.shape[2:]
        raise UserError(
            f"one image of {high}x{wide}: its last maps have one pixel, on which BatchNorm cannot train; use a batch"
            f" of at least 2, images larger than {REDUCTION} pixels, or norm=group"
        )


def create(variant: str, pretrained: bool, plan: dict[str, Any], network: Any = ShuffleNet) -> nn.Module:
    """A network with timm's habits: its checks, ``features_only`` and the rest."""
    features = {"out_indices": (0, 1, 2, 3, 4), "flatten_sequential": True}
    return build_model_with_cfg(network, variant, pretrained, feature_cfg=features, **plan)


def configs(names: list[str], first_conv: str = "first_conv.0", classifier: str = "classifier.0") -> Any:
    """What timm knows of the networks; there are no weights to download."""
    own = {"num_classes": 1000, "input_size": (3, 224, 224), "pool_size": (7, 7)}
    return generate_default_cfgs({name: own | {"first_conv": first_conv, "classifier": classifier} for name in names})


def _register(name: str, groups: int, width: float) -> None:
    """``shufflenet_v1_g3_1_0x`` and the others: Table 1's channels times the width."""
    stem = 16 if (groups, width) == (8, 0.5) else STEM[width]  # 12 would leave channels that 8 does not divide
    stages = tuple(int(CHANNELS[groups] * width) << stage for stage in range(3))

    def build(pretrained: bool = False, shuffle: bool = True, **options: Any) -> nn.Module:
        def unit(inp: int, oup: int, stride: int, norm_layer: Norm) -> nn.Module:
            first_groups = 1 if inp == stem else groups
            return ShuffleUnit(inp, oup, stride, groups, first_groups, norm_layer, shuffle=shuffle)

        return create(name, pretrained, {"unit": unit, "stem": stem, "stages": stages} | options)

    build.__name__ = name
    register_model(build)


NAMES = {f"shufflenet_v1_g{g}_{str(w).replace('.', '_')}x": (g, w) for g in CHANNELS for w in STEM}
default_cfgs = small_configs("shufflenet_v1_small") | configs(list(NAMES))
for _name, _plan in NAMES.items():
    _register(_name, *_plan)


@register_model
def shufflenet_v1_small(
    pretrained: bool = False,
    groups: int = GROUPS,
    depth: int | None = None,
    width: int | None = None,
    shuffle: bool = True,
    **options: Any,
) -> nn.Module:
    """ShuffleNet V1 on the small skeleton: units in place of bottlenecks, by default as wide as the groups allow.

    Args:
        pretrained, options: as timm gives them.
        groups: g.
        depth: 9n + 2, n units a stage; None is 29.
        width: channels of the stem, and of the first stage's bottlenecks; None is equal cost for 1, 2, 3, 4, 8 groups.
        shuffle: without it is an ablation of the paper's.

    Raises:
        UserError: the groups do not divide the width, or are others than these five and no width is given.
    """
    if width is None and groups not in WIDTHS:
        raise UserError(f"model.groups={groups}: must be one of {', '.join(map(str, WIDTHS))}, or model.width be given")

    def unit(chans: int, planes: int, stride: int, downsample: nn.Module | None, norm_layer: Norm) -> nn.Module:
        first_groups = 1 if stride == 1 and downsample is not None else groups  # 1 in the first unit of all
        return ShuffleUnit(
            chans, planes * BOTTLENECK, stride, groups, first_groups, norm_layer, shuffle=shuffle
        )  # fmt: skip

    plan = {"depth": DEPTH if depth is None else depth, "width": WIDTHS[groups] if width is None else width}
    return small("shufflenet_v1_small", unit, pretrained, **plan, **options)
