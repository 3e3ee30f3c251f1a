"""The unit of ShuffleNet V2: half of the channels pass, the other half is convolved.

Ma, Zhang, Zheng, Sun: ShuffleNet V2, ECCV 2018, Sec. 3 and Fig. 3 c, d.

Shapes: B images, C_in and C_out channels in and out, H x W pixels, s the stride.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from paperzoo.errors import UserError
from paperzoo.papers.shufflenet_v2.halves import split


class SplitUnit(nn.Module):
    """Pointwise, depthwise and pointwise convolution of one half, or of all channels where the shape changes.

    Where it stays, the even channels pass as they are and the odd are convolved (Fig. 3c); where it changes, a second
    branch brings all channels to the new size, and the main branch makes the rest (Fig. 3d). As in the authors' code,
    whose names these are, shuffle and split begin a unit and the concatenation ends it, and that second branch keeps
    C_in channels.

    Args:
        inp, oup: C_in and C_out.
        stride: s, of the depthwise convolutions.
        norm_layer: called with the number of channels.

    Raises:
        UserError: the channels cannot be halved, or there are fewer than before.
    """

    def __init__(
        self, inp: int, oup: int, stride: int = 1, norm_layer: Callable[..., nn.Module] = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        self.splits = stride == 1 and inp == oup
        if oup % 2 or oup < 2 or (oup <= inp and not self.splits):
            raise UserError(
                f"a ShuffleNet V2 unit from {inp} to {oup} channels: {oup} must be even, and more than {inp} where the"
                " shape changes; choose another width"
            )
        mid = oup // 2  # both pointwise convolutions as wide as they are long (guideline 1), where there is a split
        inner = inp // 2 if self.splits else inp
        new = mid if self.splits else oup - inp
        self.branch_main = nn.Sequential(
            nn.Conv2d(inner, mid, 1, bias=False),
            norm_layer(mid),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid, mid, 3, stride, padding=1, groups=mid, bias=False),
            norm_layer(mid),
            nn.Conv2d(mid, new, 1, bias=False),
            norm_layer(new),
            nn.ReLU(inplace=True),
        )
        self.branch_proj = nn.Identity() if self.splits else _projection(inp, stride, norm_layer)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / s, W / s), rounded up."""
        passing, convolved = split(x) if self.splits else (x, x)
        return torch.cat([self.branch_proj(passing), self.branch_main(convolved)], dim=1)


def _projection(chans: int, stride: int, norm_layer: Callable[..., nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(chans, chans, 3, stride, padding=1, groups=chans, bias=False),
        norm_layer(chans),
        nn.Conv2d(chans, chans, 1, bias=False),
        norm_layer(chans),
        nn.ReLU(inplace=True),
    )
