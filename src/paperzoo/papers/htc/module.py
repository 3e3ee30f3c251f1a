"""HTC's module."""

from typing import Any

from torch import nn

from paperzoo.errors import UserError
from paperzoo.tasks.detection import InstanceSegmentation


class HybridTaskCascade(InstanceSegmentation):
    """Chen et al., 2019; ``interleaved``, ``mask_info_flow``, ``semantic_fusion``, ``stages`` are its ablations."""

    def build_network(self, network: str, num_classes: int, **options: Any) -> nn.Module:
        """With as many labels of pixels as the data has.

        Raises:
            UserError: the semantic branch has no maps to learn from.
        """
        labels = self.info["stuff_classes"]
        if not labels and options.get("semantic_fusion", True):
            raise UserError(
                "model.semantic_fusion=true: the data has no label for each pixel (stuffthingmaps); give it maps, or "
                "set model.semantic_fusion=false"
            )
        return super().build_network(network, num_classes, stuff_classes=max(1, labels), **options)
