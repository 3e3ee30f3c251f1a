"""ResNeXt's module; importing its package has registered the networks."""

from typing import Any

import timm
from torch import nn

from paperzoo.tasks.classification import Classification


class ResNeXt(Classification):
    """Xie et al., 2017: at equal complexity, more paths (cardinality) gain more than more width or depth."""

    def build_network(self, network: str, num_classes: int, in_chans: int, **options: Any) -> nn.Module:
        """A ResNeXt from timm's registry."""
        # timm would start residual branches at zero, which the paper does not; options that are None it leaves out.
        return timm.create_model(network, num_classes=num_classes, in_chans=in_chans, zero_init_last=False, **options)
