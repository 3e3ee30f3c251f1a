"""The networks of ShuffleNet V2: the authors' at four widths, torchvision's under torchvision's names, a small one."""

from typing import Any

from timm.models import register_model
from torch import nn

from paperzoo.networks.small import EXPANSION, Norm, small, small_configs
from paperzoo.papers.shufflenet_v1.network import configs, create
from paperzoo.papers.shufflenet_v2.torchvision_form import TorchvisionForm
from paperzoo.papers.shufflenet_v2.unit import SplitUnit

STEM = 24
PLANS = {  # width: channels of stages 2, 3, 4 and of the last convolution (Table 5)
    0.5: ((48, 96, 192), 1024),
    1.0: ((116, 232, 464), 1024),
    1.5: ((176, 352, 704), 1024),
    2.0: ((244, 488, 976), 2048),
}
DROP_RATE = {2.0: 0.2}  # the authors' code drops before the classifier of the widest alone
DEPTH, WIDTH = 29, 13  # of the small network: the cost of resnet_small


def _register(width: float) -> None:
    """``shufflenet_v2_1_0x`` (the authors') and ``shufflenet_v2_x1_0`` (torchvision's), and so on."""
    word = str(width).replace(".", "_")
    stages, last = PLANS[width]
    plan: dict[str, Any] = {"stem": STEM, "stages": stages, "last": last}

    def official(pretrained: bool = False, **options: Any) -> nn.Module:
        own = {"unit": SplitUnit, "drop_rate": DROP_RATE.get(width, 0.0)}
        return create(f"shufflenet_v2_{word}x", pretrained, plan | own | options)

    def torchvision(pretrained: bool = False, **options: Any) -> nn.Module:
        return create(f"shufflenet_v2_x{word}", pretrained, plan | options, TorchvisionForm)

    official.__name__, torchvision.__name__ = f"shufflenet_v2_{word}x", f"shufflenet_v2_x{word}"
    register_model(official)
    register_model(torchvision)


_WORDS = [str(width).replace(".", "_") for width in PLANS]
default_cfgs = (
    small_configs("shufflenet_v2_small")
    | configs([f"shufflenet_v2_{word}x" for word in _WORDS])
    | configs([f"shufflenet_v2_x{word}" for word in _WORDS], "conv1.0", "fc")
)
for _width in PLANS:
    _register(_width)


def split_unit(chans: int, planes: int, stride: int, downsample: nn.Module | None, norm_layer: Norm) -> nn.Module:
    """The paper's unit as the small skeleton calls it; it has a projection of its own."""
    return SplitUnit(chans, planes * EXPANSION, stride, norm_layer)


@register_model
def shufflenet_v2_small(
    pretrained: bool = False, depth: int | None = None, width: int | None = None, **options: Any
) -> nn.Module:
    """ShuffleNet V2 on the small skeleton: units in place of bottlenecks, no convolution before the pooling.

    Args:
        pretrained, options: as timm gives them.
        depth: 9n + 2, n units a stage; None is 29.
        width: channels of the stem, a quarter of the first stage's; None is 13.
    """
    plan = {"depth": DEPTH if depth is None else depth, "width": WIDTH if width is None else width}
    return small("shufflenet_v2_small", split_unit, pretrained, **plan, **options)
