"""Strip pooling's modules, one a task; importing their package has registered the networks."""

from typing import Any

from torch import Tensor, nn

from paperzoo.errors import UserError
from paperzoo.norms.single import explained
from paperzoo.tasks.classification import Classification
from paperzoo.tasks.segmentation import Segmentation

AUXILIARY = 0.4  # the paper's weight of the auxiliary loss
PARSERS = {"strip_pooling_small": "spnet_small", "strip_resnet50": "spnet50", "strip_resnet101": "spnet101"}


class StripPooling(Classification):
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
        return super().build_network(network, num_classes, in_chans, **options)


class SceneParsing(Segmentation):
    """Hou et al., 2020: SPNet, or a trunk's name for the SPNet upon it.

    ``spm``, ``mpms``, ``short_range`` and ``long_range`` are the paper's ablations, ``auxiliary`` is the weight of the
    auxiliary loss (null 0.4; 0 leaves its scorer away).
    """

    def build_network(
        self, network: str, num_classes: int, in_chans: int, auxiliary: float | None = None, **options: Any
    ) -> nn.Module:
        """An SPNet from timm's registry; options that are None it leaves out."""
        name = PARSERS.get(network, network)
        has_scorer = _weight(auxiliary) > 0
        return super().build_network(name, num_classes, in_chans, auxiliary=has_scorer, **options)

    def logits_and_loss(self, images: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, K, H, W), and the mean loss over labelled pixels with the auxiliary scorer's share."""
        share = _weight(self.hparams["model"]["auxiliary"])
        if not share:
            return super().logits_and_loss(images, targets, weights)
        with explained(len(images), images.shape[2:]):
            logits, second = self.network.forward_both(images.contiguous(memory_format=self.memory_format))
        return logits, self.mean_loss(logits, targets, weights) + share * self.mean_loss(second, targets, weights)


def _weight(auxiliary: float | None) -> float:
    return AUXILIARY if auxiliary is None else auxiliary


classification, segmentation = StripPooling, SceneParsing  # by the data's task, as conf/model/strip_pooling.yaml names
