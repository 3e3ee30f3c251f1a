"""MobileNet V2's module; importing its package has registered the networks."""

from typing import Any

import timm
from torch import nn

from paperzoo.tasks.classification import Classification


class MobileNetV2(Classification):
    """Sandler et al., 2018: shortcuts join narrow, linear layers; the wide ones between them are depthwise.

    ``multiplier`` is the width, ``expansion`` is t; ``residual`` and ``linear`` are the paper's ablations. timm's
    networks take none.
    """

    def build_network(self, network: str, num_classes: int, in_chans: int, **options: Any) -> nn.Module:
        """A MobileNet V2 from timm's registry, which leaves out options that are None."""
        return timm.create_model(network, num_classes=num_classes, in_chans=in_chans, **options)
