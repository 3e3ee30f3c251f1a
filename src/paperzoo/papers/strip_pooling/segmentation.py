"""Strip pooling's module for scene parsing; importing its package has registered the networks."""

from typing import Any

import timm
from torch import nn

from paperzoo.tasks import segmentation

AUXILIARY = 0.4  # the paper's weight of the auxiliary loss
PARSERS = {"strip_pooling_small": "spnet_small", "strip_resnet50": "spnet50", "strip_resnet101": "spnet101"}


class StripPooling(segmentation.Segmentation):
    """Hou et al., 2020: SPNet, or a trunk's name for the SPNet upon it.

    ``spm``, ``mpms``, ``short_range`` and ``long_range`` are the paper's ablations, ``auxiliary`` is the weight of the
    auxiliary loss (null 0.4; 0 leaves its scorer away).
    """

    @property
    def auxiliary(self) -> float:
        """The weight of the auxiliary loss."""
        return _weight(self.hparams["model"]["auxiliary"])

    def build_network(
        self, network: str, num_classes: int, in_chans: int, auxiliary: float | None = None, **options: Any
    ) -> nn.Module:
        """An SPNet from timm's registry; options that are None it leaves out."""
        name = PARSERS.get(network, network)
        has_scorer = _weight(auxiliary) > 0
        return timm.create_model(name, num_classes=num_classes, in_chans=in_chans, auxiliary=has_scorer, **options)


def _weight(auxiliary: float | None) -> float:
    return AUXILIARY if auxiliary is None else auxiliary
