"""SCNet's module; importing its package has registered the networks."""

from typing import Any

import timm
from torch import nn

from paperzoo.tasks.classification import Classification


class SCNet(Classification):
    """Liu et al., 2020: a convolution that weighs its responses by a wider, pooled view gains at no parameter.

    ``pooling_rate`` is r, ``identity`` and ``pooling`` are the paper's ablations of the calibration; ``depth`` and
    ``width`` are of the small network alone.
    """

    def build_network(self, network: str, num_classes: int, in_chans: int, **options: Any) -> nn.Module:
        """An SCNet from timm's registry."""
        # timm would start residual branches at zero, which the paper does not; options that are None it leaves out.
        return timm.create_model(network, num_classes=num_classes, in_chans=in_chans, zero_init_last=False, **options)
