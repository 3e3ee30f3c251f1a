"""ShuffleNet V1's module; importing its package has registered the networks."""

from typing import Any

import timm
from torch import nn

from paperzoo.tasks.classification import Classification


class ShuffleNetV1(Classification):
    """Zhang et al., 2018: with grouped pointwise convolutions and a channel shuffle, more channels cost as much.

    ``groups``, ``depth`` and ``width`` are of the small network alone; the others have them in their names.
    """

    def build_network(self, network: str, num_classes: int, in_chans: int, **options: Any) -> nn.Module:
        """A ShuffleNet V1 from timm's registry."""
        return timm.create_model(network, num_classes=num_classes, in_chans=in_chans, **options)
