"""Strip pooling's module for images of one label each; importing its package has registered the networks."""

from typing import Any

import timm
from torch import nn

from paperzoo.errors import UserError
from paperzoo.tasks import classification


class StripPooling(classification.Classification):
    """Hou et al., 2020: the trunk alone, whose bottlenecks look along rows and columns.

    ``spm`` says in which blocks; ``depth`` and ``width`` are of the small network alone, the other options of the
    scene parser.
    """

    def build_network(self, network: str, num_classes: int, in_chans: int, **options: Any) -> nn.Module:
        """A trunk from timm's registry; options that are None it leaves out."""
        if network.startswith("spnet"):
            raise UserError(
                f"model.network={network}: labels pixels, this data labels images; use data=digit_maps or"
                " data=coco_stuff, or a network that classifies (strip_pooling_small, strip_resnet50, ...)"
            )
        return timm.create_model(network, num_classes=num_classes, in_chans=in_chans, **options)
