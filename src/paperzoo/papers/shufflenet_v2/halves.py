"""Channel split, concatenation and shuffle of ShuffleNet V2, merged into one movement of the data.

Ma, Zhang, Zheng, Sun: ShuffleNet V2, ECCV 2018, Sec. 3: "Concat", "Channel Shuffle" and "Channel Split" in succession
are one element-wise operation. Here each half moves once: one is gathered for the convolution, the other stays a view
until the concatenation at the unit's end. Their gradient is one interleaving.
"""

import torch
from torch import Tensor

from paperzoo.errors import UserError
from paperzoo.papers.shufflenet_v1.channel_shuffle import memory_format


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Even and odd channels: what a shuffle with two channels a group and a split in halves give.

    Args:
        x: (B, C, H, W), C even.

    Returns:
        (B, C / 2, H, W) twice: a view of the even channels, the odd channels in the memory format of ``x``.

    Raises:
        UserError: C is odd.
    """
    if x.shape[1] % 2:
        raise UserError(f"split of {x.shape[1]} channels: must be an even number, half of them pass")
    if memory_format(x) == torch.contiguous_format:
        even, odd = x.unflatten(1, (-1, 2)).unbind(2)
        return even, odd.contiguous()  # now, or the convolution does it twice: forward and backward
    even, odd = x.permute(0, 2, 3, 1).unflatten(3, (-1, 2)).unbind(4)  # (B, H, W, C / 2)
    return even.permute(0, 3, 1, 2), odd.contiguous().permute(0, 3, 1, 2)


def interleave(even: Tensor, odd: Tensor) -> Tensor:
    """Concatenation and shuffle in two groups; the inverse of ``split``.

    Args:
        even, odd: (B, C / 2, H, W).

    Returns:
        (B, C, H, W) in the memory format of ``odd``.
    """
    if memory_format(odd) == torch.contiguous_format:
        return torch.stack([even, odd], dim=2).flatten(1, 2)
    pairs = torch.stack([even.permute(0, 2, 3, 1), odd.permute(0, 2, 3, 1)], dim=4)  # (B, H, W, C / 2, 2)
    return pairs.flatten(3).permute(0, 3, 1, 2)
