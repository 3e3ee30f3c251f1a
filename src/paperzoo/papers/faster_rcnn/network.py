"""Faster R-CNN: torchvision's, upon any trunk of timm's registry."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from paperzoo.detection.anchors import RATIOS
from paperzoo.detection.backbone import Backbone, without_timms
from paperzoo.detection.small import FEWER, small

BOX_SIZE = 7  # bins along each side of a region's features
NAMES = {  # torchvision's names of the losses
    "loss_objectness": "rpn_objectness",
    "loss_rpn_box_reg": "rpn_box",
    "loss_classifier": "classification",
    "loss_box_reg": "box",
}


class Trunk(Backbone):
    """A trunk and its pyramid, under torchvision's names."""

    def __init__(self, name: str, channels: int, **options: Any) -> None:
        super().__init__(name, **options)
        self.fpn = FeaturePyramidNetwork(self.channels, channels, LastLevelMaxPool())
        self.out_channels = channels

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":  # type: ignore[override]
        """Levels by name, the coarsest is ``pool``."""
        return self.fpn(OrderedDict((str(i), x) for i, x in enumerate(super().forward(images))))


class FasterRCNN(TorchvisionFasterRCNN):
    """Ren et al., 2015, with a pyramid as torchvision has it.

    Args:
        num_classes: K, without background.
        backbone: in timm's registry; ``options`` are of it.
        channels: of the pyramid.
        hidden: width of the box head.
        frozen_stages, norm_eval: see ``detection.backbone``.
        anchor_scale: side of an anchor in strides of its level.
        proposals: regions of an image that are left after suppression, and half as many in evaluation.
        regions: of an image that the box head is trained on.
    """

    detecting: Mapping[str, Any] = {}

    def __init__(
        self,
        num_classes: int = 90,
        *,
        backbone: str = "resnet50",
        channels: int = 256,
        hidden: int = 1024,
        frozen_stages: int = 1,
        norm_eval: bool = True,
        anchor_scale: float = 8.0,
        proposals: int = 2000,
        regions: int = 512,
        **options: Any,
    ) -> None:
        trunk = Trunk(backbone, channels, frozen_stages=frozen_stages, norm_eval=norm_eval, **options)
        strides = [*trunk.strides, 2 * trunk.strides[-1]]
        sizes = tuple((round(anchor_scale * stride),) for stride in strides)
        super().__init__(
            trunk,
            rpn_anchor_generator=AnchorGenerator(sizes, (RATIOS,) * len(sizes)),
            rpn_pre_nms_top_n_train=proposals,
            rpn_post_nms_top_n_train=proposals,
            rpn_pre_nms_top_n_test=max(1, proposals // 2),
            rpn_post_nms_top_n_test=max(1, proposals // 2),
            box_batch_size_per_image=regions,
            box_head=TwoMLPHead(channels * BOX_SIZE**2, hidden),
            box_predictor=FastRCNNPredictor(hidden, num_classes + 1),
        )

    def forward(self, images: Tensor) -> Any:
        """(B, 3, H, W) -> levels, and the maps of proposals: what is computed at every place."""
        features = list(self.backbone(images).values())
        return features, self.rpn.head(features)

    def losses(
        self, images: Tensor, image_sizes: Sequence[tuple[int, int]], targets: Sequence[dict[str, Any]]
    ) -> dict[str, Tensor]:
        """The losses of a batch; see ``tasks.detection``."""
        own = [{**one, "labels": one["labels"] + 1} for one in targets]  # theirs have the background first
        features = self.backbone(images)
        proposals, of_rpn = self.rpn(ImageList(images, list(image_sizes)), features, own)
        _, of_boxes = self.roi_heads(features, proposals, list(image_sizes), own)
        return {NAMES[name]: loss for name, loss in {**of_rpn, **of_boxes}.items()}

    @torch.no_grad()
    def detect(
        self,
        images: Tensor,
        image_sizes: Sequence[tuple[int, int]],
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
    ) -> list[dict[str, Tensor]]:
        """The objects of each image, in evaluation mode; see ``tasks.detection``."""
        heads = self.roi_heads
        heads.score_thresh, heads.nms_thresh, heads.detections_per_img = score_threshold, nms_threshold, max_detections
        features = self.backbone(images)
        proposals, _ = self.rpn(ImageList(images, list(image_sizes)), features)
        found, _ = heads(features, proposals, list(image_sizes))
        return [{**one, "labels": one["labels"] - 1} for one in found]


def build(num_classes: int = 90, **options: Any) -> FasterRCNN:
    """As torchvision's ``fasterrcnn_resnet50_fpn``, whose 91 classes have the background first."""
    return FasterRCNN(num_classes, **options)


@register_model
def faster_rcnn_tiny(pretrained: bool = False, num_classes: int = 10, **options: Any) -> FasterRCNN:
    """For images of about a hundred pixels."""
    network = FasterRCNN(num_classes, **small(without_timms(options)))
    network.detecting = FEWER
    return network


@register_model
def faster_rcnn_r50_fpn(pretrained: bool = False, num_classes: int = 90, **options: Any) -> FasterRCNN:
    """Torchvision's ``fasterrcnn_resnet50_fpn``."""
    return FasterRCNN(num_classes, **without_timms(options))
