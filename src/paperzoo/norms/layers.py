"""Layers that torch lacks in the form in which the papers use them, and what counts as a normalisation layer."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _LazyNormBase
from torch.nn.modules.instancenorm import _InstanceNorm

GROUPS = 32  # Wu & He, 2018, Sec. 3


class Normalisation(nn.Module):
    """What a paper's own normalisation layer derives from, so that it is recognised without knowing the paper.

    Not torch's ``_BatchNorm``: whatever converts synchronised layers would replace it silently.
    """

    num_features: int


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


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises maps by statistics: batch, instance, group, or a paper's own."""
    return isinstance(module, _BatchNorm | _InstanceNorm | nn.GroupNorm | Normalisation) and not isinstance(
        module, _LazyNormBase
    )


def channels(module: Any) -> int:
    """C of a normalisation layer."""
    return module.num_channels if isinstance(module, nn.GroupNorm) else module.num_features
