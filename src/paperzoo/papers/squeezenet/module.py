"""SqueezeNet's module; importing its package has registered the networks."""

from typing import Any

import timm
from torch import nn

from paperzoo.tasks.classification import Classification


class SqueezeNet(Classification):
    """Iandola et al., 2016: few channels reach the 3x3 kernels, so that few parameters reach AlexNet's accuracy.

    ``squeeze_ratio``, ``pct_3x3`` and ``bypass`` are the paper's explorations of its Fire module.
    """

    def build_network(self, network: str, num_classes: int, in_chans: int, **options: Any) -> nn.Module:
        """A SqueezeNet from timm's registry."""
        return timm.create_model(network, num_classes=num_classes, in_chans=in_chans, **options)
