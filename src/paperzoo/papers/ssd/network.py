"""SSD: torchvision's, on VGG-16 or any trunk of timm's registry."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor
from torchvision.models.detection import ssd as torchvision_ssd
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from paperzoo.detection import initial
from paperzoo.detection.backbone import without_timms
from paperzoo.detection.small import FEWER, small_dense
from paperzoo.errors import UserError
from paperzoo.papers.ssd.features import VGG, TrunkFeatures, VGGFeatures, ratios_to_square, warped
from paperzoo.papers.ssd.multibox_loss import multibox_loss

Ratios = tuple[tuple[int, ...], ...]
SIDE, LEAST = 300, 268  # pixels; the last map of VGG-16's would have no place below that
RATIOS: Ratios = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))  # of sides, and their inverses, beside two squares (Fig. 2)
SCALES: tuple[float, ...] = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)  # of the image's side; for COCO (Sec. 3.4)
STEPS = (8, 16, 32, 64, 100, 300)  # pixels
TRUNK_RATIOS: Ratios = ((2,), (2, 3), (2, 3), (2,))
TRUNK_SCALES: tuple[float, ...] = (0.18, 0.3, 0.45, 0.65, 0.9)
MOST = max(max(ratios) for ratios in RATIOS)


class SSD(torchvision_ssd.SSD):
    """Liu et al., 2016. Images are warped to a square, whose sides' parts the default boxes are.

    Args:
        num_classes: K, without background.
        backbone: ``vgg16``, or in timm's registry; ``options`` are of it.
        image_size: side of the square in pixels.
        channels: of the map that is added to those of a trunk of timm's.
        frozen_stages: of the trunk that are not trained.
        norm_eval: see ``detection.backbone``; VGG-16 has no normalisation.
        negatives: that are trained on for each positive.
        largest_ratio: of the default boxes' sides: 1 leaves squares alone.

    Raises:
        UserError: the square is too small for VGG-16, or its trunk is not as ``frozen_stages`` says.
    """

    detecting: Mapping[str, Any] = {}

    def __init__(
        self,
        num_classes: int = 90,
        *,
        backbone: str = VGG,
        image_size: int = SIDE,
        channels: int = 256,
        frozen_stages: int = 0,
        norm_eval: bool = True,
        negatives: float = 3.0,
        largest_ratio: int = MOST,
        **options: Any,
    ) -> None:
        features: VGGFeatures | TrunkFeatures
        if backbone == VGG:
            if image_size < LEAST:
                raise UserError(f"model.image_size={image_size}: must be at least {LEAST} for {VGG}")
            features, ratios, scales, steps = VGGFeatures(frozen_stages), RATIOS, SCALES, list(STEPS)
        else:
            own = {"frozen_stages": frozen_stages, "norm_eval": norm_eval, **options}
            features, ratios, scales, steps = TrunkFeatures(backbone, channels, **own), TRUNK_RATIOS, TRUNK_SCALES, None
        boxes = [[ratio for ratio in own if ratio <= largest_ratio] for own in ratios]
        super().__init__(
            features, DefaultBoxGenerator(boxes, scales=list(scales), steps=steps), (image_size,) * 2, num_classes + 1
        )
        if backbone != VGG:  # whose first map is rescaled; those of other trunks are not, and would start far too sure
            initial.normal(0.01, *self.head.classification_head.module_list, *self.head.regression_head.module_list)
        self.side, self.negatives = image_size, negatives

    def forward(self, images: Tensor) -> Any:
        """(B, 3, H, W) -> logits (B, A, K + 1) and deltas (B, A, 4) of all default boxes."""
        squares = warped(images, [(images.shape[2], images.shape[3])] * len(images), self.side)
        outputs = self.head(list(self.backbone(squares).values()))
        return outputs["cls_logits"], outputs["bbox_regression"]

    def _outputs(self, squares: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The heads' outputs, and the default boxes (A, 4) in pixels of the square, in the images' precision."""
        maps = list(self.backbone(squares).values())
        outputs = {name: value.to(squares.dtype) for name, value in self.head(maps).items()}
        wide = [x.to(squares.dtype) for x in maps]  # under autocast that of the maps is too coarse for pixels
        images = ImageList(squares, [(self.side, self.side)])
        return outputs, self.anchor_generator(images, wide)[0]

    def losses(
        self, images: Tensor, image_sizes: Sequence[tuple[int, int]], targets: Sequence[dict[str, Any]]
    ) -> dict[str, Tensor]:
        """``classification`` and ``box``, each over the positives of the batch; see ``tasks.detection``."""
        outputs, anchors = self._outputs(warped(images, image_sizes, self.side))
        ratios = ratios_to_square(images, image_sizes, self.side)
        classes, codes = [], []
        for target, ratio in zip(targets, ratios, strict=True):
            own = self._to_find(anchors, target["boxes"].to(anchors) * ratio, target["labels"])
            classes.append(own[0])
            codes.append(own[1])
        logits, deltas = outputs["cls_logits"], outputs["bbox_regression"]
        return multibox_loss(logits, deltas, torch.stack(classes), torch.cat(codes), self.negatives)

    def _to_find(self, anchors: Tensor, truth: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What an image's default boxes are to find: classes (A,), 0 is background, and codes (P, 4) of positives.

        An object takes the box that overlaps it most, and all whose IoU is at least 0.5 (Sec. 2.2).
        """
        if not len(truth):
            return labels.new_zeros(len(anchors)), anchors.new_zeros(0, 4)
        matches = self.proposal_matcher(box_iou(truth, anchors))
        found = matches >= 0
        classes = torch.where(found, labels[matches.clamp(min=0)] + 1, 0)
        return classes, self.box_coder.encode_single(truth[matches[found]], anchors[found])

    @torch.no_grad()
    def detect(
        self,
        images: Tensor,
        image_sizes: Sequence[tuple[int, int]],
        score_threshold: float = 0.01,
        nms_threshold: float = 0.45,
        max_detections: int = 200,
    ) -> list[dict[str, Tensor]]:
        """The objects of each image, in evaluation mode; see ``tasks.detection``. Of a class, 400 are suppressed."""
        self.score_thresh, self.nms_thresh, self.detections_per_img = score_threshold, nms_threshold, max_detections
        outputs, anchors = self._outputs(warped(images, image_sizes, self.side))
        count = len(images)
        every = self.postprocess_detections(outputs, [anchors] * count, [(self.side, self.side)] * count)
        ratios = ratios_to_square(images, image_sizes, self.side)
        return [
            {**one, "labels": one["labels"] - 1, "boxes": one["boxes"] / ratio}
            for one, ratio in zip(every, ratios, strict=True)
        ]


def build(num_classes: int = 90, **options: Any) -> SSD:
    """As torchvision's ``ssd300_vgg16``, whose 91 classes have the background first."""
    return SSD(num_classes, **options)


@register_model
def ssd_tiny(pretrained: bool = False, num_classes: int = 10, **options: Any) -> SSD:
    """For images of about a hundred pixels."""
    network = SSD(num_classes, **small_dense(without_timms(options), image_size=96))
    network.detecting = FEWER
    return network


@register_model
def ssd300_vgg16(pretrained: bool = False, num_classes: int = 90, **options: Any) -> SSD:
    """Torchvision's ``ssd300_vgg16``."""
    return SSD(num_classes, **without_timms(options))
