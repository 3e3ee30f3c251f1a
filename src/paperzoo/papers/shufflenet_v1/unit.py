"""The unit of ShuffleNet V1: a bottleneck whose pointwise convolutions are grouped.

Zhang, Zhou, Lin, Sun: ShuffleNet, CVPR 2018, Sec. 3.2 and Fig. 2.

Shapes: B images, C_in and C_out channels in and out, H x W pixels, s the stride.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from paperzoo.errors import UserError
from paperzoo.papers.shufflenet_v1.channel_shuffle import channel_shuffle

BOTTLENECK = 4  # a quarter of the output's channels (Sec. 3.3)


class ShuffleUnit(nn.Module):
    """Pointwise, depthwise and pointwise convolution, with a shuffle before the last.

    Where the shape stays, the input is added (Fig. 2b); where it changes, the input, averaged over 3x3 pixels if there
    is a stride, takes the place of the first C_in channels (Fig. 2c). Names are those of the authors' state dicts, and
    as in their code the shuffle is after the depthwise convolution (in Fig. 2 before: the same up to the order of its
    channels) and only the main branch is activated before it is joined.

    Args:
        inp, oup: C_in and C_out.
        stride: s, of the depthwise convolution.
        groups: g of the pointwise convolutions.
        first_groups: of the first of them; 1 at the network's beginning, where channels are few (Sec. 3.2). None is g.
        norm_layer: called with the number of channels.
        shuffle: without it is an ablation of the paper's (Sec. 4.1.2).

    Raises:
        UserError: the channels cannot be cut into so many groups.
    """

    def __init__(
        self,
        inp: int,
        oup: int,
        stride: int = 1,
        groups: int = 3,
        first_groups: int | None = None,
        norm_layer: Callable[..., nn.Module] = nn.BatchNorm2d,
        *,
        shuffle: bool = True,
    ) -> None:
        super().__init__()
        first_groups = first_groups or groups
        self.groups, self.shuffle = groups, shuffle
        self.joins = stride > 1 or inp != oup
        new = oup - inp if self.joins else oup
        if groups < 1 or new < 1 or inp % first_groups or new % groups:
            raise UserError(
                f"a ShuffleNet unit from {inp} to {oup} channels with groups={groups}: {inp} must be a multiple of"
                f" {first_groups} and {new}, the channels it makes, a positive one of {groups}; choose another width"
                " or number of groups"
            )
        mid = -(-oup // (BOTTLENECK * groups)) * groups  # rounded up to a multiple of g
        self.branch_main_1 = nn.Sequential(
            nn.Conv2d(inp, mid, 1, groups=first_groups, bias=False),
            norm_layer(mid),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid, mid, 3, stride, padding=1, groups=mid, bias=False),
            norm_layer(mid),
        )
        self.branch_main_2 = nn.Sequential(nn.Conv2d(mid, new, 1, groups=groups, bias=False), norm_layer(new))
        self.branch_proj = nn.AvgPool2d(3, stride, padding=1) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / s, W / s), rounded up."""
        y = self.branch_main_1(x)
        y = self.branch_main_2(channel_shuffle(y, self.groups) if self.shuffle else y)
        if self.joins:
            return torch.cat([self.branch_proj(x), y.relu_()], dim=1)
        y += x
        return y.relu_()
