"""Self-calibrated convolution: one half of the channels looks at a wider surrounding to weigh its own responses.

Liu, Hou, Cheng, Wang, Feng: Improving Convolutional Networks with Self-Calibrated Convolutions, CVPR 2020.

Shapes: B images, C channels of one half, H x W pixels, r the pooling rate.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paperzoo.errors import UserError
from paperzoo.norms import needs_two

POOLING: dict[str, Callable[..., Tensor]] = {"avg": F.avg_pool2d, "max": F.max_pool2d}


class Pool(nn.Module):
    """Pooling by r x r without overlap; a map smaller than r is pooled whole, so that small images pass.

    Args:
        rate: r.
        kind: ``avg``, or ``max`` (an ablation of the paper's).

    Raises:
        UserError: r is below 1, or the kind is neither.
    """

    def __init__(self, rate: int, kind: str = "avg") -> None:
        super().__init__()
        if rate < 1 or kind not in POOLING:
            raise UserError(f"pooling_rate={rate}, pooling={kind}: must be at least 1, and one of {', '.join(POOLING)}")
        self.rate, self.kind = rate, kind

    def window(self, x: Tensor) -> tuple[int, int]:
        """The pixels that one number comes from, for maps (B, C, H, W)."""
        return min(self.rate, x.shape[-2]), min(self.rate, x.shape[-1])

    def size(self, x: Tensor) -> tuple[int, int]:
        """The pixels that remain of (H, W)."""
        high, wide = self.window(x)
        return x.shape[-2] // high, x.shape[-1] // wide

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H // r, W // r)."""
        return POOLING[self.kind](x, self.window(x), self.window(x))

    def extra_repr(self) -> str:
        """For print(network)."""
        return f"rate={self.rate}, kind={self.kind}"


class SCConv(nn.Module):
    """Y1 = K4((X1 * K3) sigmoid(X1 + Up(Avgpool_r(X1) * K2))): equations 3 to 5 of the paper.

    Each K is a 3x3 convolution and its normalisation, without activation between them; only K4 has a stride. Up is
    nearest neighbour to the size of X1, as in the authors' code.

    Args:
        inplanes, planes: channels in and out; X1 is added to K2's response, so they are equal.
        stride: of K4.
        padding, dilation: of the kernels; equal, so that 3x3 kernels keep H and W.
        groups: of all kernels.
        pooling_r: r.
        norm_layer: called with the number of channels.
        identity: add X1 within the sigmoid; without it is an ablation of the paper's.
        pooling: ``avg``, or ``max`` (an ablation of the paper's).

    Raises:
        UserError: channels or padding that the sum does not allow, or groups that do not divide the channels.
    """

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
        groups: int = 1,
        pooling_r: int = 4,
        norm_layer: Callable[..., nn.Module] = nn.BatchNorm2d,
        *,
        identity: bool = True,
        pooling: str = "avg",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if inplanes != planes or padding != dilation:
            raise UserError(
                f"SCConv with inplanes={inplanes}, planes={planes}, padding={padding}, dilation={dilation}: planes must"
                " equal inplanes and padding must equal dilation, since X1 and K2's response are added"
            )
        if groups < 1 or planes % groups:
            raise UserError(f"SCConv with planes={planes}, groups={groups}: groups must be a divisor of planes")
        self.identity = identity
        place: dict[str, Any] = {
            key: value for key, value in (("device", device), ("dtype", dtype)) if value is not None
        }

        def kernel(stride: int = 1) -> list[nn.Module]:
            conv = nn.Conv2d(planes, planes, 3, stride, padding, dilation, groups, bias=False, **place)
            return [conv, norm_layer(planes, **place)]

        self.k2 = nn.Sequential(Pool(pooling_r, pooling), *kernel())
        self.k3 = nn.Sequential(*kernel())
        self.k4 = nn.Sequential(*kernel(stride))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / stride, W / stride), rounded up."""
        self._demand_statistics(x)
        gate = F.interpolate(self.k2(x), size=x.shape[-2:], mode="nearest")  # (B, C, H, W)                 Eq. 3
        if self.identity:
            gate += x
        return self.k4(self.k3(x) * gate.sigmoid_())  #                                                     Eq. 4, 5

    def _demand_statistics(self, x: Tensor) -> None:
        """Batch normalisation cannot train on one number per channel: say what to change."""
        pool, _, norm = self.k2
        if not (self.training and len(x) == 1 and needs_two(norm) and isinstance(pool, Pool)):
            return
        if pool.size(x) == (1, 1):
            raise UserError(
                f"SCConv: maps of {x.shape[-2]}x{x.shape[-1]} are pooled to 1x1: a batch of 1 leaves BatchNorm"
                " one number per channel; train on a batch of at least 2, larger images or a smaller pooling rate"
            )


class SCBottleneck(nn.Module):
    """ResNet's bottleneck whose 3x3 convolution is split in halves: X2 through a plain one (K1), X1 through SCConv.

    Called as timm calls its blocks, so that timm's ResNet is the network around it.

    Args:
        inplanes: channels of the input; ``planes * 4`` come out.
        planes: both halves together, at base width 32.
        stride: of K1 and K4.
        downsample: brings the shortcut to the output's shape.
        cardinality: groups of the 3x3 kernels.
        base_width: a half's channels per 64 planes.
        dilation, first_dilation: of the 3x3 kernels; timm gives the first block of a dilated stage the one before's.
        act_layer, norm_layer: layers, called as timm does.
        drop_path: stochastic depth on the residual branch.
        pooling_rate, identity, pooling: SCConv's.
        pool_stride: v1d: stride by 3x3 average pooling after K1 and K4 instead.
    """

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        *,
        cardinality: int = 1,
        base_width: int = 32,
        dilation: int = 1,
        first_dilation: int | None = None,
        act_layer: Callable[..., nn.Module] = nn.ReLU,
        norm_layer: Callable[..., nn.Module] = nn.BatchNorm2d,
        drop_path: nn.Module | None = None,
        pooling_rate: int = 4,
        identity: bool = True,
        pooling: str = "avg",
        pool_stride: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **timm_extras: Any,
    ) -> None:
        super().__init__()
        _refuse(timm_extras)
        half = planes * base_width // 64 * cardinality
        if half < 1:
            raise UserError(f"planes={planes}: a self-calibrated bottleneck needs at least 2, one for each half")
        dilation = first_dilation or dilation
        place: dict[str, Any] = {
            key: value for key, value in (("device", device), ("dtype", dtype)) if value is not None
        }
        pools = pool_stride and stride > 1
        inner = 1 if pools else stride

        self.conv1_a = nn.Conv2d(inplanes, half, 1, bias=False, **place)
        self.bn1_a = norm_layer(half, **place)
        self.conv1_b = nn.Conv2d(inplanes, half, 1, bias=False, **place)
        self.bn1_b = norm_layer(half, **place)
        self.k1 = nn.Sequential(
            nn.Conv2d(half, half, 3, inner, dilation, dilation, cardinality, bias=False, **place),
            norm_layer(half, **place),
        )
        self.scconv = SCConv(
            half, half, inner, dilation, dilation, cardinality, pooling_rate, norm_layer,
            identity=identity, pooling=pooling, **place,
        )  # fmt: skip
        self.pool = nn.AvgPool2d(3, stride, padding=1) if pools else nn.Identity()
        self.conv3 = nn.Conv2d(2 * half, planes * self.expansion, 1, bias=False, **place)
        self.bn3 = norm_layer(planes * self.expansion, **place)
        self.act = act_layer(inplace=True)
        self.drop_path = drop_path or nn.Identity()
        self.downsample = downsample or nn.Identity()

    def zero_init_last(self) -> None:
        """Start the residual branch at zero; timm's ResNet asks for it by default."""
        if isinstance(gain := getattr(self.bn3, "weight", None), Tensor):
            nn.init.zeros_(gain)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inplanes, H, W) -> (B, planes * 4, H / stride, W / stride)."""
        x2, x1 = self._halves(x)
        x2 = self.act(self.bn1_a(x2))  # (B, C, H, W): the half that K1 takes
        x1 = self.act(self.bn1_b(x1))  # (B, C, H, W): the half that is calibrated
        # Activated before they are joined: the gradient of a half is then dense when it reaches its normalisation.
        y = torch.cat([self.act(self.k1(x2)), self.act(self.scconv(x1))], dim=1)  # (B, 2C, H / stride, W / stride)
        y = self.drop_path(self.bn3(self.conv3(self.pool(y))))
        y += self.downsample(x)
        return self.act(y)

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both 1x1 convolutions of x as one: x is read once, and its gradient is not summed from two."""
        if not (_is_plain(self.conv1_a) and _is_plain(self.conv1_b)):
            return self.conv1_a(x), self.conv1_b(x)
        y = F.conv2d(x, torch.cat([self.conv1_a.weight, self.conv1_b.weight]))  # (B, 2C, H, W)
        first, second = y.chunk(2, dim=1)
        return first.clone(), second.clone()  # dense: slices would slow all that follows


def _is_plain(conv: nn.Module) -> bool:
    """The layer is its weight alone: no other layer was put in its place, and nobody listens to its calls."""
    hooked = conv._forward_hooks or conv._forward_pre_hooks or conv._backward_hooks or conv._backward_pre_hooks
    return type(conv) is nn.Conv2d and conv.bias is None and not hooked


def _refuse(extras: dict[str, Any]) -> None:
    """Timm's ResNet passes what this block has no place for; only its defaults are right then."""
    for name, value in extras.items():
        if value not in (None, 1):
            raise UserError(f"{name}={value}: a self-calibrated bottleneck takes no {name}")
