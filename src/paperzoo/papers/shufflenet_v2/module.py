"""ShuffleNet V2's module; importing its package has registered the networks."""

from typing import Any

import timm
from torch import nn

from paperzoo.tasks.classification import Classification


class ShuffleNetV2(Classification):
    """Ma et al., 2018: a channel split in place of groups and sums is faster at equal multiply-adds.

    ``depth`` and ``width`` are of the small network alone.
    """

    def build_network(self, network: str, num_classes: int, in_chans: int, **options: Any) -> nn.Module:
        """A ShuffleNet V2 from timm's registry."""
        return timm.create_model(network, num_classes=num_classes, in_chans=in_chans, **options)
