"""One skeleton for networks of 28 to 32 pixels: papers differ in their block and in nothing else.

A 3x3 stem, three stages of bottlenecks (strides 1, 2, 2), global average pooling, a linear classifier: the CIFAR
form of ResNeXt (Sec. 5.2), with depth 9n + 2 and a width of choice.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.layers import LayerType, create_classifier, get_norm_layer
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs
from torch import Tensor, nn

from paperzoo.errors import UserError

EXPANSION = 4  # a bottleneck gives four times its planes
DEPTH, WIDTH = 11, 16  # n = 1: an epoch of the embedded data takes seconds
Norm = Callable[[int], nn.Module]
# A block from (in_chans, planes, stride, downsample, norm_layer); it gives planes * EXPANSION channels and sets
# its last normalisation's gain to zero when its zero_init_last() is called, as timm's blocks do.
BlockFactory = Callable[[int, int, int, nn.Module | None, Norm], nn.Module]


class SmallNet(nn.Module):
    """The skeleton.

    Args:
        block: makes the paper's bottleneck.
        depth: 9n + 2, n bottlenecks a stage (three layers each, three stages, stem and classifier); None is 11.
        width: planes of the first stage, and channels of the stem; each stage doubles them. None is 16.
        num_classes: 0 leaves the classifier away.
        in_chans: channels of the images.
        global_pool: timm's name of the pooling before the classifier.
        drop_rate: dropout before the classifier.
        norm_layer: of the stem, the shortcuts and the blocks.
        zero_init_last: start each residual branch at zero (Goyal et al., 2017); no paper here does.

    Raises:
        UserError: the depth is not 9n + 2, or a number is below 1.
    """

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module

    def __init__(
        self,
        block: BlockFactory,
        depth: int | None = None,
        width: int | None = None,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        norm_layer: LayerType = nn.BatchNorm2d,
        zero_init_last: bool = False,
    ) -> None:
        super().__init__()
        planes = WIDTH if width is None else width
        if planes < 1 or in_chans < 1:
            raise UserError(f"model.width={planes} with {in_chans} image channels: must be at least 1 each")
        blocks = _blocks_a_stage(DEPTH if depth is None else depth)
        norm_layer = get_norm_layer(norm_layer)
        self.in_chans = in_chans
        self.grad_checkpointing = False
        self.conv1 = nn.Conv2d(in_chans, planes, 3, padding=1, bias=False)
        self.bn1 = norm_layer(planes)
        self.act1 = nn.ReLU(inplace=True)
        self.feature_info = [{"num_chs": planes, "reduction": 1, "module": "act1"}]
        chans = planes
        for stage in range(3):
            layers = []
            for index in range(blocks):
                stride = 2 if stage and not index else 1
                shortcut = _shortcut(chans, planes << stage, stride, norm_layer)
                layers.append(block(chans, planes << stage, stride, shortcut, norm_layer))
                chans = (planes << stage) * EXPANSION
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
            self.feature_info.append({"num_chs": chans, "reduction": 2**stage, "module": f"layer{stage + 1}"})
        self.num_features = self.head_hidden_size = chans
        self.num_classes = num_classes
        self.global_pool, self.head_drop, self.fc = create_classifier(
            chans, num_classes, pool_type=global_pool, drop_rate=drop_rate
        )
        self._initialise(zero_init_last)

    def _initialise(self, zero_init_last: bool) -> None:
        """He's initialisation for rectifiers, as in the papers' code."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if zero_init_last and callable(start := getattr(module, "zero_init_last", None)):
                start()

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """The last layer, or its name."""
        return "fc" if name_only else self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer."""
        weight = self.conv1.weight
        self.num_classes = num_classes
        pool_type = self.global_pool.pool_type if global_pool is None else global_pool
        self.global_pool, self.fc = create_classifier(
            self.num_features, num_classes, pool_type=pool_type, device=weight.device, dtype=weight.dtype
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute activations twice instead of keeping them."""
        self.grad_checkpointing = enable

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 16 * width, H/4, W/4)."""
        x = self.act1(self.bn1(self.conv1(images)))
        if self.grad_checkpointing:
            return checkpoint_seq([self.layer1, self.layer2, self.layer3], x, flatten=True)
        return self.layer3(self.layer2(self.layer1(x)))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features -> (B, num_classes), or the pooled features."""
        pooled = self.head_drop(self.global_pool(features))  # (B, 16 * width)
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_classes)."""
        return self.forward_head(self.forward_features(images))


def small(name: str, block: BlockFactory, pretrained: bool = False, **options: Any) -> nn.Module:
    """Build a small network as timm builds its own, with ``features_only`` and the rest."""
    features = {"out_indices": (0, 1, 2, 3)}
    return build_model_with_cfg(partial(SmallNet, block), name, pretrained, feature_cfg=features, **options)


def small_configs(name: str) -> Any:
    """What timm knows of about a small network; there are no weights to download."""
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
