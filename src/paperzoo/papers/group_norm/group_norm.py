"""Group normalisation: the statistics of each image over groups of channels, whatever the size of the batch.

Wu, He: Group Normalization, ECCV 2018.
"""

from typing import Any

from torch import nn

GROUPS = 32  # Sec. 3


class GroupNorm(nn.GroupNorm):
    """Group normalisation called as BatchNorm is: Wu & He, 2018, Eq. 7.

    Args:
        num_features: C.
        groups: at most so many; the largest divisor of C up to it is taken, so that every width works.
        eps, affine, device, dtype: as torch's.
    """

    def __init__(
        self,
        num_features: int,
        groups: int = GROUPS,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        divisor = max(g for g in range(1, min(groups, num_features) + 1) if num_features % g == 0)
        super().__init__(divisor, num_features, eps=eps, affine=affine, device=device, dtype=dtype)


class LayerNorm(GroupNorm):
    """Layer normalisation of maps: over C, H and W of each image, with a scale and shift per channel.

    Group normalisation with one group (Wu & He, 2018, Sec. 3.1); torch's LayerNorm has a scale per pixel.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, affine: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(num_features, 1, eps, affine, device, dtype)
