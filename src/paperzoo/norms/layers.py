"""What counts as a normalisation layer."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _LazyNormBase
from torch.nn.modules.instancenorm import _InstanceNorm


class Normalisation(nn.Module):
    """What a paper's own normalisation layer derives from, so that it is recognised without knowing the paper.

    Not torch's ``_BatchNorm``: whatever converts synchronised layers would replace it silently.
    """

    num_features: int


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises maps by statistics: batch, instance, group, or a paper's own."""
    return isinstance(module, _BatchNorm | _InstanceNorm | nn.GroupNorm | Normalisation) and not isinstance(
        module, _LazyNormBase
    )


def channels(module: Any) -> int:
    """C of a normalisation layer."""
    return module.num_channels if isinstance(module, nn.GroupNorm) else module.num_features
