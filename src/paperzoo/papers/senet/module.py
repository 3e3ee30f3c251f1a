"""SENet's module; importing its package has registered the networks."""

from typing import Any

import timm
from torch import nn

from paperzoo.tasks.classification import Classification


class SENet(Classification):
    """Hu et al., 2018: each channel is weighed by what the whole image holds, at hardly any cost.

    ``reduction`` is r, ``squeeze`` and ``excitation`` are the paper's ablations; all options are of the small network.
    """

    def build_network(self, network: str, num_classes: int, in_chans: int, **options: Any) -> nn.Module:
        """An SE network from timm's registry, which leaves out options that are None."""
        if not network.startswith("legacy_"):  # those of timm's ResNet, whose branches would start at zero
            options["zero_init_last"] = False
        return timm.create_model(network, num_classes=num_classes, in_chans=in_chans, **options)
