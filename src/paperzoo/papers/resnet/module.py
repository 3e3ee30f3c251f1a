"""ResNet's module; importing its package has registered the networks."""

from typing import Any

import timm
from torch import nn

from paperzoo.tasks.classification import Classification


class ResNet(Classification):
    """He et al., 2016: layers learn a residual F(x) that is added to their input, y = F(x) + x (Eq. 1)."""

    def build_network(self, network: str, num_classes: int, in_chans: int, **options: Any) -> nn.Module:
        """A ResNet from timm's registry."""
        # timm would start residual branches at zero, which the paper does not; options that are None it leaves out.
        return timm.create_model(network, num_classes=num_classes, in_chans=in_chans, zero_init_last=False, **options)
