"""The trunk of a detector: a network of timm's registry, its maps, and what of it is not trained."""

from typing import Any

import timm
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from paperzoo.errors import UserError

NORMS = (nn.modules.batchnorm._BatchNorm, BatchNormAct2d)
MAPS = 4  # maps that a pyramid is built on


class Backbone(nn.Module):
    """The last maps of a network of timm's registry.

    Args:
        name: in timm's registry.
        maps: how many maps, the coarsest last; they start at stride 4 in a ResNet with the default of four.
        frozen_stages: 0: all is trained; 1: the stem and the first of the maps' stages are not; 2: one more stage.
        norm_eval: batch normalisation by its running statistics in training, too; gains and shifts are trained.
        options: of the network.

    Attributes:
        channels, strides: of the maps.

    Raises:
        UserError: there is no such network, it gives no maps, or not as many stages.
    """

    def __init__(
        self, name: str, maps: int = MAPS, frozen_stages: int = 1, norm_eval: bool = True, **options: Any
    ) -> None:
        super().__init__()
        self.name, self.body = name, _made(name, maps, options)
        self.norm_eval = norm_eval
        self.channels: list[int] = self.body.feature_info.channels()
        self.strides: list[int] = self.body.feature_info.reduction()
        self.frozen = _frozen(name, self.body, frozen_stages)
        for module in self.frozen:
            self.body.get_submodule(module).requires_grad_(False)
        self.train()

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> maps (B, channels[i], H / strides[i], W / strides[i]).

        Raises:
            UserError: the network takes images of another size alone.
        """
        try:
            return list(self.body(images))
        except AssertionError as error:  # timm's, of networks with positions or windows of one size
            size = "x".join(map(str, images.shape[2:]))
            raise UserError(f"model.backbone={self.name}: does not take images of {size} ({error})") from None

    def train(self, mode: bool = True) -> "Backbone":
        """Frozen stages, and with ``norm_eval`` all batch normalisation, stay as in evaluation."""
        super().train(mode)
        for name in self.frozen if mode else ():
            self.body.get_submodule(name).eval()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, NORMS):
                    module.eval()
        return self


def _made(name: str, maps: int, options: dict[str, Any]) -> Any:
    if not timm.is_model(name):
        raise UserError(f"model.backbone={name}: is not in timm's registry")
    try:
        indices = tuple(range(-maps, 0))
        body = timm.create_model(name, features_only=True, out_indices=indices, pretrained=False, **options)
    except (RuntimeError, AssertionError, AttributeError, IndexError, ValueError) as error:
        raise UserError(f"model.backbone={name}: does not give its last {maps} maps ({error})") from None
    if str(getattr(body, "output_fmt", "NCHW")).endswith("NHWC"):
        raise UserError(f"model.backbone={name}: its maps have their channels last; detectors take them first")
    return body


def _frozen(name: str, body: Any, count: int) -> list[str]:
    """The children of a trunk up to the last of ``count`` stages."""
    stages = body.feature_info.module_name()
    if not 0 <= count <= len(stages):
        raise UserError(f"model.frozen_stages={count}: must be from 0 to {len(stages)} for {name}")
    children = [child for child, _ in body.named_children()]
    if count and stages[count - 1] not in children:
        raise UserError(f"model.frozen_stages={count}: {name} cannot be frozen by stages; set it to 0")
    return children[: children.index(stages[count - 1]) + 1] if count else []


def without_timms(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are a detector's: ``timm.create_model`` adds those of pretrained weights, and ``in_chans``.

    Raises:
        UserError: images that are not of three channels.
    """
    if options.get("in_chans", 3) != 3:
        raise UserError(f"in_chans={options['in_chans']}: detectors take images of 3 channels")
    of_timm = ("in_chans", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
    return {name: value for name, value in options.items() if name not in of_timm and value is not None}
