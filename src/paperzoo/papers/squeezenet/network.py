"""SqueezeNet: torchvision's, with what timm's networks can, and a small one."""

from typing import Any

import torchvision
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from torch import Tensor, nn
from torchvision.models.squeezenet import Fire

from paperzoo.errors import UserError

SQUEEZE_RATIO, PCT_3X3 = 0.125, 0.5  # of the paper's Fire modules, by Sec. 5's metaparameters

_CFG = {"num_classes": 1000, "input_size": (3, 224, 224), "first_conv": "features.0", "classifier": "classifier.1"}
_SMALL = _CFG | {"num_classes": 10, "input_size": (3, 32, 32)}
default_cfgs = generate_default_cfgs({"squeezenet1_0": _CFG, "squeezenet1_1": _CFG, "squeezenet_small": _SMALL})


class BypassFire(Fire):
    """A Fire module around which its input passes: y = x + Fire(x); as many channels come out as go in."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return x + super().forward(x)


class SqueezeNet(torchvision.models.SqueezeNet):
    """torchvision's SqueezeNet, called as timm's networks are.

    Args:
        version: torchvision's, ``1_0`` or ``1_1``.
        num_classes: 0 leaves the classifier away.
        in_chans: channels of the images.
        drop_rate: of the dropout before the classifier.
        squeeze_ratio: SR, the channels of a Fire module's squeeze layer by those that it puts out.
        pct_3x3: the share of the expand channels that 3x3 kernels make; the rest are from 1x1 kernels.
        bypass: add its input to a Fire module where the channels are equal (the paper's simple bypass).
        unit_stride: the first convolution keeps the resolution, for images of 28 to 32 pixels.

    Raises:
        UserError: a ratio that leaves a layer without channels.
    """

    def __init__(
        self,
        version: str,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.5,
        squeeze_ratio: float = SQUEEZE_RATIO,
        pct_3x3: float = PCT_3X3,
        bypass: bool = False,
        unit_stride: bool = False,
    ) -> None:
        super().__init__(version, num_classes or 1, drop_rate)
        self.in_chans, self.num_features, self.head_hidden_size = in_chans, 512, 512
        self.grad_checkpointing = False
        stem = self.features[0]
        if in_chans != stem.in_channels or unit_stride:
            how = {"stride": 1, "padding": stem.kernel_size[0] // 2} if unit_stride else {"stride": stem.stride}
            self.features[0] = nn.Conv2d(in_chans, stem.out_channels, stem.kernel_size, **how)
        for index, layer in enumerate(self.features):
            if isinstance(layer, Fire):
                self.features[index] = _fire(layer, squeeze_ratio, pct_3x3, bypass)
        self.features.apply(_initialise)
        self.feature_info = _resolutions(self.features, 1 if unit_stride else 2)
        self.smallest = _smallest(self.features)
        if not num_classes:
            self.reset_classifier(0)

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """The last convolution, or its name."""
        return "classifier.1" if name_only else self.classifier[1]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last convolution; it is initialised as torchvision's.

        Raises:
            UserError: another pooling than the average.
        """
        if global_pool not in (None, "avg"):
            raise UserError(f"global_pool={global_pool}: SqueezeNet averages its class maps, it takes avg alone")
        self.num_classes = num_classes
        like = self.features[0].weight
        last: nn.Module = nn.Identity()
        if num_classes:
            last = nn.Conv2d(512, num_classes, 1, device=like.device, dtype=like.dtype)
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.classifier[1] = last

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute activations twice instead of keeping them."""
        self.grad_checkpointing = enable

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 512, H/16, W/16), about: pooling without padding takes the border.

        Raises:
            UserError: the images are too small for the poolings.
        """
        if min(images.shape[-2:]) < self.smallest:
            high, wide = images.shape[-2:]
            raise UserError(
                f"SqueezeNet: images of {high}x{wide} pixels; this one takes at least {self.smallest} a side"
            )
        if self.grad_checkpointing:  # not the stem's rectifier: it works in place
            return checkpoint_seq(self.features[2:], self.features[:2](images))
        return self.features(images)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features -> (B, num_classes), or the pooled features (B, 512)."""
        return features.mean((2, 3)) if pre_logits else self.classifier(features).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_classes), at least zero: the last convolution's maps are rectified, then averaged."""
        return self.forward_head(self.forward_features(images))


def _fire(like: Fire, squeeze_ratio: float, pct_3x3: float, bypass: bool) -> Fire:
    """A Fire module of as many channels in and out, its inner ones by the paper's metaparameters."""
    total = like.expand1x1.out_channels + like.expand3x3.out_channels
    squeeze, expand3x3 = int(squeeze_ratio * total), int(pct_3x3 * total)
    if squeeze < 1 or not 0 < expand3x3 < total:
        raise UserError(
            f"model.squeeze_ratio={squeeze_ratio}, model.pct_3x3={pct_3x3}: of {total} channels they leave {squeeze} to"
            f" squeeze, {expand3x3} to 3x3 and {total - expand3x3} to 1x1 kernels; each needs one"
        )
    kind = BypassFire if bypass and like.inplanes == total else Fire
    return kind(like.inplanes, squeeze, total - expand3x3, expand3x3)


def _initialise(module: nn.Module) -> None:
    """As torchvision initialises."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_uniform_(module.weight)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def _resolutions(features: nn.Sequential, reduction: int) -> list[dict[str, Any]]:
    """For ``features_only``: the last layer of each resolution."""
    found, chans = [], 0
    for index, layer in enumerate(features):
        if isinstance(layer, nn.MaxPool2d):
            found.append({"num_chs": chans, "reduction": reduction, "module": f"features.{index - 1}"})
            reduction *= 2
        elif isinstance(layer, nn.Conv2d):
            chans = layer.out_channels
        elif isinstance(layer, Fire):
            chans = layer.expand1x1.out_channels + layer.expand3x3.out_channels
    return [*found, {"num_chs": chans, "reduction": reduction, "module": f"features.{len(features) - 1}"}]


def _smallest(features: nn.Sequential) -> int:
    """Pixels a side that leave one to each pooling, from the last layer back to the image."""
    pixels = 1
    for layer in reversed(features):
        if isinstance(layer, nn.MaxPool2d):  # 3x3, stride 2, rounded up: a window needs two pixels of its own
            pixels *= 2
    stem: Any = features[0]
    return (pixels - 1) * stem.stride[0] + stem.kernel_size[0] - 2 * stem.padding[0]


def _create(name: str, pretrained: bool, **options: Any) -> nn.Module:
    features = {"out_indices": (0, 1, 2, 3), "flatten_sequential": True}
    return build_model_with_cfg(SqueezeNet, name, pretrained, feature_cfg=features, **options)


@register_model
def squeezenet1_0(pretrained: bool = False, **options: Any) -> nn.Module:
    """SqueezeNet: 1,248,424 parameters; takes squeeze_ratio=0.125, pct_3x3=0.5, bypass=False."""
    return _create("squeezenet1_0", pretrained, version="1_0", **options)


@register_model
def squeezenet1_1(pretrained: bool = False, **options: Any) -> nn.Module:
    """The authors' later SqueezeNet of 2.4 times less computation: 1,235,496 parameters."""
    return _create("squeezenet1_1", pretrained, version="1_1", **options)


@register_model
def squeezenet_small(pretrained: bool = False, **options: Any) -> nn.Module:
    """SqueezeNet 1.1 for 28 to 32 pixels: its first convolution keeps the resolution."""
    return _create("squeezenet_small", pretrained, version="1_1", unit_stride=True, **options)
