"""Channel shuffle: the groups of a convolution exchange channels, in one movement of the data.

Zhang, Zhou, Lin, Sun: ShuffleNet, CVPR 2018, Sec. 3.1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from paperzoo.errors import UserError


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Channel i * groups + j becomes channel j * (C / groups) + i, so that each group gets one of every ``groups``.

    The authors' code reads the channels as (C / groups, groups) and transposes; the paper's text reads them as
    (groups, C / groups), which is the inverse permutation (``F.channel_shuffle(x, groups)``). Weights trained with
    the one do not fit the other.

    Args:
        x: (B, C, H, W), groups divide C.
        groups: 1 changes nothing.

    Returns:
        (B, C, H, W) in the memory format of ``x``.

    Raises:
        UserError: the groups do not divide C.
    """
    if groups < 1 or x.shape[1] % groups:
        raise UserError(f"channel_shuffle of {x.shape[1]} channels with groups={groups}: must be a divisor of them")
    if groups == 1:
        return x
    if memory_format(x) == torch.contiguous_format:
        return F.channel_shuffle(x, x.shape[1] // groups)
    pixels = x.permute(0, 2, 3, 1).unflatten(3, (-1, groups))  # (B, H, W, C / groups, groups)
    return pixels.transpose(3, 4).flatten(3).permute(0, 3, 1, 2)


def memory_format(x: Tensor) -> torch.memory_format:
    """Whether the channels of each pixel lie side by side (``channels_last``), or the pixels of each channel.

    A permutation of channels is fast along the layout: within each pixel, or as whole maps.
    """
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
