"""MobileNet's module; importing its package has registered the networks."""

from typing import Any

import timm
from torch import nn

from paperzoo.tasks.classification import Classification


class MobileNet(Classification):
    """Howard et al., 2017: a depthwise and a 1x1 convolution cost an eighth to a ninth of a full 3x3 one.

    ``multiplier`` is alpha; ``separable`` and ``shallow`` are the paper's comparisons. timm's network takes none.
    """

    def build_network(self, network: str, num_classes: int, in_chans: int, **options: Any) -> nn.Module:
        """A MobileNet from timm's registry, which leaves out options that are None."""
        return timm.create_model(network, num_classes=num_classes, in_chans=in_chans, **options)
