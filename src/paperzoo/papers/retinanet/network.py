"""RetinaNet: torchvision's, upon any trunk of timm's registry."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, box_iou
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from paperzoo.detection import initial
from paperzoo.detection.anchors import RATIOS
from paperzoo.detection.backbone import Backbone, without_timms
from paperzoo.detection.matching import NOTHING
from paperzoo.detection.small import FEWER, small_dense
from paperzoo.papers.focal_loss import set_prior
from paperzoo.papers.retinanet.losses import (
    FOCAL,
    GAMMA,
    IMAGE,
    box_losses,
    classification_losses,
    over_positives,
)

OCTAVE = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))  # sizes of anchors within a level (Sec. 4)


class Trunk(Backbone):
    """The last three maps of a trunk, their pyramid, and two coarser levels; under torchvision's names."""

    def __init__(self, name: str, channels: int, p6: str = "p5", **options: Any) -> None:
        super().__init__(name, **options)
        source = channels if p6 == "p5" else self.channels[-1]
        self.fpn = FeaturePyramidNetwork(self.channels[1:], channels, LastLevelP6P7(source, channels))
        self.fpn.extra_blocks.use_P5 = p6 == "p5"  # torchvision decides by the number of channels
        self.out_channels = channels
        self.levels = [*self.strides[1:], 2 * self.strides[-1], 4 * self.strides[-1]]  # strides

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":  # type: ignore[override]
        """P3 to P7 by name; the trunk's map of stride 4 has too many places."""
        return self.fpn(OrderedDict((str(i), x) for i, x in enumerate(super().forward(images)[1:])))


class RetinaNet(TorchvisionRetinaNet):
    """Lin et al., 2017: a pyramid, and two towers of convolutions that all its levels share.

    Args:
        num_classes: K; there is no class of the background.
        backbone: in timm's registry; ``options`` are of it.
        channels: of the pyramid and the towers.
        frozen_stages, norm_eval: see ``detection.backbone``.
        anchor_scale: side of a level's smallest anchor in its strides.
        p6: what the first of the coarser levels is computed from, ``p5`` or ``c5``.
        prior: that an anchor is an object's, as the network starts.
        classification_loss, alpha, gamma, negatives, normalizer: see ``losses``.
    """

    detecting: Mapping[str, Any] = {}

    def __init__(
        self,
        num_classes: int = 91,
        *,
        backbone: str = "resnet50",
        channels: int = 256,
        frozen_stages: int = 1,
        norm_eval: bool = True,
        anchor_scale: float = 4.0,
        p6: str = "p5",
        prior: float = 0.01,
        classification_loss: str = FOCAL,
        alpha: float | None = None,
        gamma: float = GAMMA,
        negatives: float = 3.0,
        normalizer: str = IMAGE,
        **options: Any,
    ) -> None:
        trunk = Trunk(backbone, channels, p6, frozen_stages=frozen_stages, norm_eval=norm_eval, **options)
        sides = [anchor_scale * stride for stride in trunk.levels]
        sizes = tuple(tuple(int(side * size) for size in OCTAVE) for side in sides)  # whole pixels, as torchvision
        super().__init__(trunk, num_classes, anchor_generator=AnchorGenerator(sizes, (RATIOS,) * len(sizes)))
        set_prior(self.head.classification_head.cls_logits, prior)
        self.normalizer = normalizer
        self.of_classes: dict[str, Any] = {
            "kind": classification_loss,
            "alpha": alpha,
            "gamma": gamma,
            "negatives": negatives,
        }

    def forward(self, images: Tensor) -> Any:
        """(B, 3, H, W) -> logits (B, A, K) and deltas (B, A, 4) of all anchors."""
        outputs = self.head(list(self.backbone(images).values()))
        return outputs["cls_logits"], outputs["bbox_regression"]

    def _outputs(
        self, images: Tensor, image_sizes: Sequence[tuple[int, int]]
    ) -> tuple[dict[str, Tensor], Tensor, list[int]]:
        """The heads' outputs, the anchors (A, 4), and how many are of each level; in the images' precision."""
        maps = list(self.backbone(images).values())
        outputs = {name: value.to(images.dtype) for name, value in self.head(maps).items()}
        wide = [x.to(images.dtype) for x in maps]  # under autocast that of the maps is too coarse for pixels
        anchors = self.anchor_generator(ImageList(images, list(image_sizes)), wide)[0]
        places = [x.shape[2] * x.shape[3] for x in maps]
        return outputs, anchors, [count * len(anchors) // sum(places) for count in places]

    def losses(
        self, images: Tensor, image_sizes: Sequence[tuple[int, int]], targets: Sequence[dict[str, Any]]
    ) -> dict[str, Tensor]:
        """``classification`` and ``box``, over the anchors of objects; see ``tasks.detection``."""
        outputs, anchors, _ = self._outputs(images, image_sizes)
        matches, labels, codes = [], [], []
        for target in targets:
            truth = target["boxes"].to(anchors)
            own = self._matches(anchors, truth)
            found = own >= 0
            matches.append(own)
            labels.append(target["labels"][own[found]])
            codes.append(self.box_coder.encode_single(truth[own[found]], anchors[found]))
        every = torch.stack(matches)
        of_classes = classification_losses(outputs["cls_logits"], every, torch.cat(labels), **self.of_classes)
        of_boxes = box_losses(outputs["bbox_regression"], every, torch.cat(codes))
        return {
            "classification": over_positives(of_classes, every, self.normalizer),
            "box": over_positives(of_boxes, every, self.normalizer),
        }

    def _matches(self, anchors: Tensor, truth: Tensor) -> Tensor:
        """Which object each anchor is to find (A,): IoU at least 0.5; nothing below 0.4; between them ignored."""
        if not len(truth):
            return torch.full((len(anchors),), NOTHING, dtype=torch.int64, device=anchors.device)
        return self.proposal_matcher(box_iou(truth, anchors))

    @torch.no_grad()
    def detect(
        self,
        images: Tensor,
        image_sizes: Sequence[tuple[int, int]],
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        max_detections: int = 300,
    ) -> list[dict[str, Tensor]]:
        """The objects of each image, in evaluation mode; see ``tasks.detection``. Of a level, 1000 are suppressed."""
        self.score_thresh, self.nms_thresh, self.detections_per_img = score_threshold, nms_threshold, max_detections
        outputs, anchors, counts = self._outputs(images, image_sizes)
        levels = {name: list(value.split(counts, dim=1)) for name, value in outputs.items()}
        own = [list(anchors.split(counts))] * len(images)
        return self.postprocess_detections(levels, own, list(image_sizes))


def build(num_classes: int = 91, **options: Any) -> RetinaNet:
    """As torchvision's ``retinanet_resnet50_fpn``, of whose 91 classes the first is none of COCO's."""
    return RetinaNet(num_classes, **options)


@register_model
def retinanet_tiny(pretrained: bool = False, num_classes: int = 10, **options: Any) -> RetinaNet:
    """For images of about a hundred pixels."""
    network = RetinaNet(num_classes, **small_dense(without_timms(options), anchor_scale=2.0))
    for head in (network.head.classification_head, network.head.regression_head):
        initial.he(*(block[0] for block in head.conv))  # the paper's 0.01 is for 256 channels: fewer would fade
    network.detecting = FEWER
    return network


@register_model
def retinanet_r50_fpn(pretrained: bool = False, num_classes: int = 91, **options: Any) -> RetinaNet:
    """Torchvision's ``retinanet_resnet50_fpn``."""
    return RetinaNet(num_classes, **without_timms(options))
