"""Hybrid Task Cascade, with the conventions of mmdetection 3.3 (its weights give its outputs)."""

from collections.abc import Mapping, Sequence
from typing import Any

from timm.models import register_model
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from paperzoo.detection.backbone import without_timms
from paperzoo.detection.official import load_renamed, unwrapped
from paperzoo.detection.pooling import pool
from paperzoo.detection.small import FEWER, small
from paperzoo.papers.cascade_rcnn import network as cascade
from paperzoo.papers.cascade_rcnn.network import CascadeMaskRCNN, stages_of
from paperzoo.papers.htc.mask_flow import FlowMaskHead, last_mask, masks_through
from paperzoo.papers.htc.semantic_head import TARGET, SemanticHead, semantic_loss
from paperzoo.papers.mask_rcnn.network import MASK_SIZE, Sizes, Target

STAGES = tuple(stage._replace(low_quality=True) for stage in cascade.STAGES)
SEMANTIC_WEIGHT = 0.2


class HTC(CascadeMaskRCNN):
    """A cascade whose box and mask branches alternate, and which also sees the semantics of all pixels.

    The flags are the rows of the paper's ablation; without them this is Cascade Mask R-CNN, but for the matching.

    Args:
        num_classes: K, without background.
        stuff_classes: labels of pixels.
        stages: the first so many of the three.
        interleaved: a stage's mask branch is trained on boxes that its box branch has refined (section 3.1).
        mask_info_flow: a mask head takes the features of the heads before it (section 3.1). Without it, the
            convolutions that would take them have no gradient.
        semantic_fusion: the semantic branch, and its embedding added to the features of regions (section 3.2).
        options: see ``MaskRCNN``.
    """

    def __init__(
        self,
        num_classes: int = 80,
        stuff_classes: int = 183,
        stages: int = 3,
        interleaved: bool = True,
        mask_info_flow: bool = True,
        semantic_fusion: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(num_classes, stages=stages_of(stages, STAGES), **options)
        self.interleaved, self.mask_info_flow, self.semantic_fusion = interleaved, mask_info_flow, semantic_fusion
        channels: int = self.pyramid.channels
        if not mask_info_flow:
            for head in self.mask_heads[1:]:
                head.flow.requires_grad_(False)  # else ranks would wait for their gradients, and decay would move them
        if semantic_fusion:
            self.semantic_head = SemanticHead(len(self.strides), channels, stuff_classes)

    def make_mask_head(self, stage: int, channels: int) -> FlowMaskHead:
        """The mask head of a stage."""
        return FlowMaskHead(channels, channels, self.num_classes, receives=stage > 0)

    def forward(self, images: Tensor) -> Any:
        """(B, 3, H, W) -> levels, the maps of proposals and of the semantic branch."""
        features, maps = super().forward(images)
        return features, maps, self.semantic(features) if self.semantic_fusion else None

    def semantic(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Levels -> logits (B, stuff classes, H/8, W/8) and the embedding (B, channels, H/8, W/8).

        Raises:
            ValueError: the network was built with ``semantic_fusion=False`` and has no semantic branch.
        """
        if not self.semantic_fusion:
            raise ValueError("semantic_fusion=False: this network has no semantic branch")
        return self.semantic_head(features)

    def pool(
        self, features: Sequence[Tensor], boxes: Sequence[Tensor], size: int, embedding: Tensor | None = None
    ) -> Tensor:
        """Features of regions (R, channels, size, size), with those of the embedding added where it is given."""
        pooled = super().pool(features, boxes, size)
        if embedding is None or not self.semantic_fusion:
            return pooled
        own = pool([embedding], boxes, [self.strides[TARGET]], MASK_SIZE)
        return pooled + (own if size == MASK_SIZE else adaptive_avg_pool2d(own, size))

    def mask_stage(
        self, stage: int, features: Sequence[Tensor], boxes: Sequence[Tensor], embedding: Tensor | None = None
    ) -> Tensor:
        """Logits (R, K, 28, 28), with the flow from the stages before."""
        pooled = self.pool(features, boxes, MASK_SIZE, embedding)
        return last_mask(self.mask_heads[: stage + 1], pooled, self.mask_info_flow)

    def _embedding(self, features: Sequence[Tensor]) -> Tensor | None:
        return self.semantic(features)[1] if self.semantic_fusion else None

    def _mask_logits(
        self, features: Sequence[Tensor], boxes: Sequence[Tensor], embedding: Tensor | None, mask_stages: str
    ) -> list[Tensor]:
        pooled = self.pool(features, boxes, MASK_SIZE, embedding)
        if mask_stages == "last":
            return [last_mask(self.mask_heads, pooled, self.mask_info_flow)]
        return masks_through(self.mask_heads, pooled, self.mask_info_flow)

    def _region_losses(
        self,
        features: Sequence[Tensor],
        proposals: Sequence[Tensor],
        image_sizes: Sizes,
        targets: Sequence[Target],
        sampling: str,
    ) -> dict[str, Tensor]:
        """As of a cascade; a target also has ``semantic`` (H, W), 255 where a pixel has no label."""
        losses: dict[str, Tensor] = {}
        embedding = None
        if self.semantic_fusion:
            logits, embedding = self.semantic(features)
            maps = [one["semantic"] for one in targets]
            losses["semantic"] = SEMANTIC_WEIGHT * semantic_loss(logits, maps, self.strides[TARGET])
        boxes = proposals
        for stage, _ in enumerate(self.stages):
            regions = self._sample(stage, boxes, targets, sampling)
            own, logits, deltas = self._box_losses(stage, features, regions, targets, embedding)
            boxes = self._refined(stage, regions, logits, deltas, image_sizes, targets)
            if self.interleaved:
                regions = self._sample(stage, boxes, targets, sampling)  # again, as this stage does
            losses |= own | self._mask_losses(stage, features, regions, targets, embedding)
        return losses


RULES = (
    *cascade.RULES,
    ("roi_head.mask_head.{}.conv_res.conv.", "mask_heads.{}.flow."),
    ("roi_head.semantic_head.lateral_convs.{}.conv.", "semantic_head.laterals.{}."),
    ("roi_head.semantic_head.convs.{}.conv.", "semantic_head.convs.{}."),
    ("roi_head.semantic_head.conv_embedding.conv.", "semantic_head.embedding."),
    ("roi_head.semantic_head.conv_logits.", "semantic_head.logits."),
)


def build(
    num_classes: int = 80,
    stuff_classes: int = 183,
    stages: int = 3,
    interleaved: bool = True,
    mask_info_flow: bool = True,
    semantic_fusion: bool = True,
    **options: Any,
) -> HTC:
    """HTC, R50-FPN as in mmdetection's ``htc_r50_fpn_1x_coco``; see ``HTC``."""
    return HTC(num_classes, stuff_classes, stages, interleaved, mask_info_flow, semantic_fusion, **options)


@register_model
def htc_tiny(pretrained: bool = False, num_classes: int = 10, **options: Any) -> HTC:
    """For images of about a hundred pixels; the embedded data has 14 labels of pixels."""
    network = HTC(num_classes, **small(without_timms(options), stuff_classes=14, anchor_border=-1.0))
    network.detecting = FEWER
    return network


@register_model
def htc_r50_fpn(pretrained: bool = False, num_classes: int = 80, **options: Any) -> HTC:
    """As ``build``."""
    return HTC(num_classes, **without_timms(options))


def load_official(network: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Load mmdetection's ``htc_r50_fpn_1x_coco``, every key of it.

    A network built without the semantic branch or with fewer stages leaves those parts of the full layout out: the
    rows of the ablation start from the same weights.

    Raises:
        UserError: keys are missing, unexpected or of another shape.
    """
    inner = unwrapped(network)
    stages = range(len(inner.stages), len(STAGES))
    unused = [f"roi_head.{part}_head.{stage}." for part in ("bbox", "mask") for stage in stages]
    if not inner.semantic_fusion:
        unused.append("roi_head.semantic_head.")
    load_renamed(network, state_dict, RULES, unused)
