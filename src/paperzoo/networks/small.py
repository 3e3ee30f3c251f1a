"""One skeleton for networks of 28 to 32 pixels: papers differ in their block and in nothing else.

A 3x3 stem, three stages of bottlenecks (strides 1, 2, 2), global average pooling, a linear classifier: the CIFAR
form of ResNeXt (Sec. 5.2), with depth 9n + 2 and a width of choice.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs
from torch import Tensor, nn

from paperzoo.errors import UserError

EXPANSION = 4  # a bottleneck gives four times its planes
DEPTH, WIDTH = 20, 16  # n = 2
Norm = Callable[[int], nn.Module]
# A block from (in_chans, planes, stride, downsample, norm_layer); it gives planes * EXPANSION channels.
BlockFactory = Callable[[int, int, int, nn.Module | None, Norm], nn.Module]


class SmallNet(nn.Module):
    """The skeleton.

    Args:
        block: makes the paper's bottleneck.
        depth: 9n + 2, n bottlenecks a stage (three layers each, three stages, stem and classifier).
        width: planes of the first stage; each stage doubles them.
        num_classes: 0 leaves the classifier away.
        in_chans: channels of the images.
        norm_layer: of the stem, the shortcuts and the blocks.

    Raises:
        UserError: the depth is not 9n + 2.
    """

    def __init__(
        self,
        block: BlockFactory,
        depth: int | None = None,
        width: int | None = None,
        num_classes: int = 10,
        in_chans: int = 3,
        norm_layer: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        planes = width or WIDTH
        blocks = _blocks_a_stage(depth or DEPTH)
        self.conv1 = nn.Conv2d(in_chans, planes, 3, padding=1, bias=False)
        self.bn1 = norm_layer(planes)
        self.act1 = nn.ReLU(inplace=True)
        self.feature_info = [{"num_chs": planes, "reduction": 1, "module": "act1"}]
        chans = planes
        for stage in range(3):
            layers = []
            for index in range(blocks):
                stride = 2 if stage and not index else 1
                layers.append(block(chans, planes << stage, stride, _shortcut(chans, planes << stage, stride, norm_layer), norm_layer))
                chans = (planes << stage) * EXPANSION
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
            self.feature_info.append({"num_chs": chans, "reduction": 2**stage, "module": f"layer{stage + 1}"})
        self.num_features = self.head_hidden_size = chans
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.reset_classifier(num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """He's initialisation for rectifiers, as in the papers' code."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer."""
        self.num_classes = num_classes
        self.fc: nn.Module = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 16 * width, H/4, W/4)."""
        x = self.act1(self.bn1(self.conv1(images)))
        return self.layer3(self.layer2(self.layer1(x)))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features -> (B, num_classes), or the pooled features."""
        pooled = self.global_pool(features).flatten(1)
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_classes)."""
        return self.forward_head(self.forward_features(images))


def small(name: str, block: BlockFactory, pretrained: bool = False, **options: Any) -> nn.Module:
    """Build a small network as timm builds its own, with ``features_only`` and the rest."""
    features = {"out_indices": (0, 1, 2, 3), "flatten_sequential": True}
    return build_model_with_cfg(partial(SmallNet, block), name, pretrained, feature_cfg=features, **options)


def small_configs(name: str) -> Any:
    """timm's description of a small network; there are no weights to download."""
    config = {"url": "", "num_classes": 10, "input_size": (3, 32, 32), "first_conv": "conv1", "classifier": "fc"}
    return generate_default_cfgs({name: config})


def _blocks_a_stage(depth: int) -> int:
    blocks, rest = divmod(depth - 2, 9)
    if rest or blocks < 1:
        nearest = 9 * max(1, round((depth - 2) / 9)) + 2
        raise UserError(f"model.depth={depth}: must be 9n + 2 (11, 20, 29, 38, ...); the nearest is {nearest}")
    return blocks


def _shortcut(chans: int, planes: int, stride: int, norm_layer: Norm) -> nn.Module | None:
    """A projection where the block changes the shape."""
    if stride == 1 and chans == planes * EXPANSION:
        return None
    projection = nn.Conv2d(chans, planes * EXPANSION, 1, stride=stride, bias=False)
    return nn.Sequential(projection, norm_layer(planes * EXPANSION))
