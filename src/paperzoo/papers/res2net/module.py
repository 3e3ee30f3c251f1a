"""Res2Net's module; importing its package has registered the networks."""

from typing import Any

import timm
from torch import nn

from paperzoo.tasks.classification import Classification


class Res2Net(Classification):
    """Gao et al.: splits within a block, connected like a small residual net, see more scales at equal cost."""

    def build_network(self, network: str, num_classes: int, in_chans: int, **options: Any) -> nn.Module:
        """A Res2Net from timm's registry."""
        # timm would start residual branches at zero, which the paper does not; options that are None it leaves out.
        return timm.create_model(network, num_classes=num_classes, in_chans=in_chans, zero_init_last=False, **options)
