"""Channel split, concatenation and shuffle of ShuffleNet V2, merged into one movement of the data.

Ma, Zhang, Zheng, Sun: ShuffleNet V2, ECCV 2018, Sec. 3: "Concat", "Channel Shuffle" and "Channel Split" in succession
are one element-wise operation. Here neither half is moved: the halves are views, and the concatenation that follows,
or the convolution that reads one of them, gathers it. Their gradient is one interleaving.
"""

import torch
from torch import Tensor

from paperzoo.papers.shufflenet_v1.channel_shuffle import pixels_last


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Even and odd channels: what a shuffle with two channels a group and a split in halves give.

    Args:
        x: (B, C, H, W), C even.

    Returns:
        Two views (B, C / 2, H, W).
    """
    if pixels_last(x):
        even, odd = x.unflatten(1, (-1, 2)).unbind(2)
        return even, odd
    even, odd = x.permute(0, 2, 3, 1).unflatten(3, (-1, 2)).unbind(4)  # (B, H, W, C / 2)
    return even.permute(0, 3, 1, 2), odd.permute(0, 3, 1, 2)


def interleave(even: Tensor, odd: Tensor) -> Tensor:
    """Concatenation and shuffle in two groups; the inverse of ``split``.

    Args:
        even, odd: (B, C / 2, H, W).

    Returns:
        (B, C, H, W) in the memory format of ``odd``.
    """
    if pixels_last(odd):
        return torch.stack([even, odd], dim=2).flatten(1, 2)
    pairs = torch.stack([even.permute(0, 2, 3, 1), odd.permute(0, 2, 3, 1)], dim=4)  # (B, H, W, C / 2, 2)
    return pairs.flatten(3).permute(0, 3, 1, 2)
