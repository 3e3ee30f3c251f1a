"""Cascade Mask R-CNN, with the conventions of mmdetection 3.3 (its weights give its outputs)."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor

from paperzoo.detection.backbone import without_timms
from paperzoo.detection.official import TRUNK, loader
from paperzoo.detection.rpn import RPNSettings
from paperzoo.detection.sampling import Regions, Stage, region_labels
from paperzoo.detection.small import FEWER, small
from paperzoo.errors import UserError
from paperzoo.papers.mask_rcnn.network import MaskRCNN, Sizes, Target

STAGES = (  # section 4: each stage is trained for a quality of its own, on the boxes of the one before
    Stage(0.5, (0.1, 0.1, 0.2, 0.2), 1.0, low_quality=False),
    Stage(0.6, (0.05, 0.05, 0.1, 0.1), 0.5, low_quality=False),
    Stage(0.7, (0.033, 0.033, 0.067, 0.067), 0.25, low_quality=False),
)
RPN_SETTINGS = RPNSettings()


class CascadeMaskRCNN(MaskRCNN):
    """Stages of ascending IoU, each with a box head and a mask head of its own (Cai and Vasconcelos, 2018).

    Args:
        num_classes: K, without background.
        stages: matching, box code and weight of each.
        options: see ``MaskRCNN``.
    """

    def __init__(self, num_classes: int = 80, *, stages: Sequence[Stage] = STAGES, **options: Any) -> None:
        options = {"rpn": RPN_SETTINGS, "agnostic": True, "box_beta": 1.0, **options}
        super().__init__(num_classes, stages=stages, **options)

    def _candidates(
        self, features: Sequence[Tensor], boxes: Sequence[Tensor], image_sizes: Sizes, embedding: Tensor | None
    ) -> list[tuple[Tensor, Tensor]]:
        """Scores of the mean of all stages' logits, each on its own boxes; boxes of the last stage."""
        last, logits = len(self.stages) - 1, []
        for stage in range(last):
            own, deltas = self.box_stage(stage, features, boxes, embedding)
            logits.append(own)
            boxes = self.refine(stage, boxes, own, deltas, image_sizes)
        own, deltas = self.box_stage(last, features, boxes, embedding)
        return self._decoded(last, boxes, torch.stack([*logits, own]).mean(dim=0), deltas, image_sizes)

    def _region_losses(
        self,
        features: Sequence[Tensor],
        proposals: Sequence[Tensor],
        image_sizes: Sizes,
        targets: Sequence[Target],
        sampling: str,
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        boxes = proposals
        for stage, _ in enumerate(self.stages):
            regions = self._sample(stage, boxes, targets, sampling)
            own, logits, deltas = self._box_losses(stage, features, regions, targets)
            losses |= own | self._mask_losses(stage, features, regions, targets)
            if stage + 1 < len(self.stages):
                boxes = self._refined(stage, regions, logits, deltas, image_sizes, targets)
        return losses

    def _refined(
        self,
        stage: int,
        regions: list[Regions],
        logits: Tensor,
        deltas: Tensor,
        image_sizes: Sizes,
        targets: Sequence[Target],
    ) -> list[Tensor]:
        """The regions moved by a stage, without the objects' own boxes, which every sampling adds."""
        labels = region_labels(regions, targets, self.num_classes)
        moved = self.refine(stage, [region.boxes for region in regions], logits, deltas, image_sizes, labels)
        return [
            torch.cat([boxes[: len(region.added)][~region.added], boxes[len(region.added) :]])
            for region, boxes in zip(regions, moved, strict=True)
        ]


RULES = (
    *TRUNK,
    ("roi_head.bbox_head.{}.shared_fcs.0.", "box_heads.{}.fc1."),
    ("roi_head.bbox_head.{}.shared_fcs.1.", "box_heads.{}.fc2."),
    ("roi_head.bbox_head.{}.fc_cls.", "box_heads.{}.classes."),
    ("roi_head.bbox_head.{}.fc_reg.", "box_heads.{}.deltas."),
    ("roi_head.mask_head.{}.convs.{}.conv.", "mask_heads.{}.convs.{}."),
    ("roi_head.mask_head.{}.upsample.", "mask_heads.{}.upsample."),
    ("roi_head.mask_head.{}.conv_logits.", "mask_heads.{}.logits."),
)


def build(num_classes: int = 80, **options: Any) -> CascadeMaskRCNN:
    """Cascade Mask R-CNN as in mmdetection's ``cascade-mask-rcnn_r50_fpn_1x_coco``; ``options`` are of the class."""
    return CascadeMaskRCNN(num_classes, **options)


@register_model
def cascade_rcnn_tiny(pretrained: bool = False, num_classes: int = 10, **options: Any) -> CascadeMaskRCNN:
    """For images of about a hundred pixels, over whose edges the largest anchors reach."""
    network = CascadeMaskRCNN(num_classes, **small(without_timms(options), anchor_border=-1.0))
    network.detecting = FEWER
    return network


@register_model
def cascade_mask_rcnn_r50_fpn(pretrained: bool = False, num_classes: int = 80, **options: Any) -> CascadeMaskRCNN:
    """As ``build``."""
    return CascadeMaskRCNN(num_classes, **without_timms(options))


load_official = loader("cascade-mask-rcnn_r50_fpn_1x_coco", RULES)


def stages_of(count: int, stages: Sequence[Stage] = STAGES) -> tuple[Stage, ...]:
    """The first ``count`` of the stages.

    Raises:
        UserError: there are not as many, or none is asked for.
    """
    if not 1 <= count <= len(stages):
        raise UserError(f"model.stages={count}: must be from 1 to {len(stages)}")
    return tuple(stages[:count])
