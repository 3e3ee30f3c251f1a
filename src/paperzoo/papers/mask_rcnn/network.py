"""Mask R-CNN on a feature pyramid, with the conventions of mmdetection 3.3 (its weights give its outputs)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn

from paperzoo.detection.backbone import Backbone, without_timms
from paperzoo.detection.box_head import BoxHead
from paperzoo.detection.boxes import clip, decode, encode
from paperzoo.detection.losses import box_loss, classification_loss, mask_loss
from paperzoo.detection.masks import mask_targets
from paperzoo.detection.nms import multiclass_nms
from paperzoo.detection.official import TRUNK, loader
from paperzoo.detection.pooling import pool
from paperzoo.detection.pyramid import Pyramid
from paperzoo.detection.rpn import RPN, RPNSettings, resized
from paperzoo.detection.sampling import RANDOM, Regions, Stage, region_labels, sample_regions
from paperzoo.detection.small import FEWER, small
from paperzoo.errors import UserError
from paperzoo.papers.mask_rcnn.mask_head import MaskHead

BOX_SIZE, MASK_SIZE = 7, 14  # bins along each side of a region's features
MASK_STAGES = ("mean", "last")
STAGES = (Stage(),)
RPN_SETTINGS = RPNSettings(border=-1, beta=0, after_nms=(1000, 1000))
Sizes = Sequence[tuple[int, int]]
Target = dict[str, Any]


class MaskRCNN(nn.Module):
    """Boxes, classes and masks of the objects in images.

    Images are (B, 3, H, W) floats, normalised, padded to one size at the right and at the bottom; ``image_sizes`` are
    the (height, width) of each before padding. Boxes are (P, 4) tensors, one an image; logits and deltas have the rows
    of all images, one after the other.

    Args:
        num_classes: K, without background.
        stages: matching, box code and weight of each stage; this network has one.
        rpn: settings of the proposals.
        agnostic: whether a box is moved alike for every class.
        box_beta: of the smooth L1 loss of the stages; 0 is L1.
        backbone: in timm's registry; ``options`` are of it.
        channels: of the pyramid and the mask heads.
        hidden: width of the box heads.
        frozen_stages, norm_eval: see ``detection.backbone``.
        anchor_scale, anchor_border, proposals: change ``rpn``, see ``detection.rpn.resized``.
        regions: of an image that a stage is trained on; None: as ``stages`` say.
    """

    detecting: Mapping[str, Any] = {}

    def __init__(
        self,
        num_classes: int = 80,
        *,
        stages: Sequence[Stage] = STAGES,
        rpn: RPNSettings = RPN_SETTINGS,
        agnostic: bool = False,
        box_beta: float = 0.0,
        backbone: str = "resnet50",
        channels: int = 256,
        hidden: int = 1024,
        frozen_stages: int = 1,
        norm_eval: bool = True,
        anchor_scale: float | None = None,
        anchor_border: float | None = None,
        proposals: int | None = None,
        regions: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise UserError(f"num_classes={num_classes}: must be at least 1")
        stages = [stage if regions is None else stage._replace(size=regions) for stage in stages]
        self.num_classes, self.stages, self.box_beta = num_classes, tuple(stages), box_beta
        self.backbone = Backbone(backbone, frozen_stages=frozen_stages, norm_eval=norm_eval, **options)
        self.pyramid = Pyramid(self.backbone.channels, channels)
        self.strides = [*self.backbone.strides, 2 * self.backbone.strides[-1]]
        self.rpn_head = RPN(channels, self.strides, resized(rpn, anchor_scale, anchor_border, proposals))
        self.box_heads = nn.ModuleList(BoxHead(channels, BOX_SIZE, num_classes, hidden, agnostic) for _ in self.stages)
        self.mask_heads = nn.ModuleList(self.make_mask_head(i, channels) for i, _ in enumerate(self.stages))

    def make_mask_head(self, stage: int, channels: int) -> MaskHead:
        """The mask head of a stage."""
        return MaskHead(channels, channels, self.num_classes)

    def forward(self, images: Tensor) -> Any:
        """(B, 3, H, W) -> levels, and the maps of proposals: what is computed at every place."""
        features = self.features(images)
        return features, self.rpn(features)

    # the parts

    def features(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> [P2, ..., P6], each (B, channels, h, w)."""
        return self.pyramid(self.backbone(images))

    def rpn(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Levels -> logits (B, 3, h, w) and deltas (B, 12, h, w) of each."""
        return self.rpn_head(features)

    def proposals(self, features: Sequence[Tensor], image_sizes: Sizes) -> list[Tensor]:
        """Regions (P, 4) of each image, best first, with the settings of evaluation."""
        return self.rpn_head.proposals(*self.rpn(features), image_sizes)

    def pool(
        self, features: Sequence[Tensor], boxes: Sequence[Tensor], size: int, embedding: Tensor | None = None
    ) -> Tensor:
        """Features of regions (R, channels, size, size), from all levels but the coarsest."""
        return pool(features[:-1], boxes, self.strides[:-1], size)

    def box_stage(
        self, stage: int, features: Sequence[Tensor], boxes: Sequence[Tensor], embedding: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Class logits (R, K + 1), background last, and deltas (R, 4), or (R, 4 K) class after class."""
        return self.box_heads[stage](self.pool(features, boxes, BOX_SIZE, embedding))

    @torch.no_grad()
    def refine(
        self,
        stage: int,
        boxes: Sequence[Tensor],
        logits: Tensor,
        deltas: Tensor,
        image_sizes: Sizes,
        labels: Tensor | None = None,
    ) -> list[Tensor]:
        """Boxes moved by a stage, and clipped; no gradient flows through them.

        Where each class has deltas of its own, by those of ``labels`` (R,), or of the likeliest class where there are
        none or the label is the background.
        """
        counts = [len(part) for part in boxes]
        if deltas.shape[1] > 4:
            likeliest = logits[:, :-1].argmax(dim=1)
            known = likeliest if labels is None else torch.where(labels < self.num_classes, labels, likeliest)
            deltas = self._of_class(deltas, known)
        moved = zip(boxes, deltas.split(counts), image_sizes, strict=True)
        return [clip(decode(part, own, self.stages[stage].stds), size) for part, own, size in moved]

    def mask_stage(
        self, stage: int, features: Sequence[Tensor], boxes: Sequence[Tensor], embedding: Tensor | None = None
    ) -> Tensor:
        """Logits (R, K, 28, 28)."""
        return self.mask_heads[stage](self.pool(features, boxes, MASK_SIZE, embedding))

    # evaluation

    @torch.no_grad()
    def detect(
        self,
        images: Tensor,
        image_sizes: Sizes,
        proposals: Sequence[Tensor] | None = None,
        score_threshold: float = 0.001,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
        mask_stages: str = "mean",
    ) -> list[dict[str, Tensor]]:
        """The objects of each image.

        Args:
            images, image_sizes: see the class.
            proposals: regions of each image; None: the network's own.
            score_threshold: strict; mmdetection's default of this network and of the cascade is 0.05.
            nms_threshold: IoU above which the better of two boxes of a class suppresses the other.
            max_detections: the best of an image.
            mask_stages: masks are the mean over the stages' probabilities, or the ``last`` stage's.

        Returns:
            For each image ``boxes`` (D, 4), ``scores`` (D,), ``labels`` (D,), ``masks`` (D, 28, 28) of probabilities
            inside of the boxes (``detection.masks.paste``), best first.
        """
        if mask_stages not in MASK_STAGES:
            raise ValueError(f"mask_stages={mask_stages}: must be one of {', '.join(MASK_STAGES)}")
        features = self.features(images)
        boxes = self.proposals(features, image_sizes) if proposals is None else list(proposals)
        embedding = self._embedding(features)
        candidates = self._candidates(features, boxes, image_sizes, embedding)
        found = []
        for pair in candidates:
            own, scores, labels, _ = multiclass_nms(*pair, score_threshold, nms_threshold, max_detections)
            found.append({"boxes": own, "scores": scores, "labels": labels})
        labels = torch.cat([one["labels"] for one in found])
        logits = self._mask_logits(features, [one["boxes"] for one in found], embedding, mask_stages)
        rows = torch.arange(len(labels), device=labels.device)
        masks = torch.stack([stage[rows, labels].sigmoid() for stage in logits]).mean(dim=0)
        for one, part in zip(found, masks.split([len(one["labels"]) for one in found]), strict=True):
            one["masks"] = part
        return found

    def _embedding(self, features: Sequence[Tensor]) -> Tensor | None:
        """What is added to the features of regions; a subclass may have something."""
        return None

    def _candidates(
        self, features: Sequence[Tensor], boxes: Sequence[Tensor], image_sizes: Sizes, embedding: Tensor | None
    ) -> list[tuple[Tensor, Tensor]]:
        """Boxes (P, 4) or (P, 4 K) and scores (P, K) of each image."""
        logits, deltas = self.box_stage(0, features, boxes, embedding)
        return self._decoded(0, boxes, logits, deltas, image_sizes)

    def _decoded(
        self, stage: int, boxes: Sequence[Tensor], logits: Tensor, deltas: Tensor, image_sizes: Sizes
    ) -> list[tuple[Tensor, Tensor]]:
        counts = [len(part) for part in boxes]
        scores = logits.softmax(dim=-1)[:, :-1].split(counts)
        stds = self.stages[stage].stds
        moved = zip(boxes, deltas.split(counts), image_sizes, strict=True)
        return list(zip([clip(decode(part, own, stds), size) for part, own, size in moved], scores, strict=True))

    def _mask_logits(
        self, features: Sequence[Tensor], boxes: Sequence[Tensor], embedding: Tensor | None, mask_stages: str
    ) -> list[Tensor]:
        """Logits of those stages whose masks are averaged."""
        pooled = self.pool(features, boxes, MASK_SIZE, embedding)
        heads = self.mask_heads if mask_stages == "mean" else self.mask_heads[-1:]
        return [head(pooled) for head in heads]

    def _of_class(self, deltas: Tensor, labels: Tensor) -> Tensor:
        """(R, 4 K), (R,) -> (R, 4); (R, 4) as they are."""
        own = deltas.view(len(deltas), deltas.shape[1] // 4, 4)
        rows = torch.arange(len(deltas), device=deltas.device)
        return own[rows, labels if own.shape[1] > 1 else 0]

    # training

    def losses(
        self,
        images: Tensor,
        image_sizes: Sizes,
        targets: Sequence[Target],
        proposals: Sequence[Tensor] | None = None,
        sampling: str = RANDOM,
    ) -> dict[str, Tensor]:
        """The losses of a batch, whose sum is trained on.

        Args:
            images, image_sizes: see the class.
            targets: of each image ``boxes`` (G, 4), ``labels`` (G,) from 0, ``masks`` (G, H, W) bool.
            proposals: regions of each image; None: the network's own, and its RPN is trained, too.
            sampling: ``random``, or ``first``: the first of each kind, for comparisons.

        Returns:
            ``rpn_objectness`` and ``rpn_box``; ``stage0_classification``, ``stage0_box``, ``stage0_mask`` and so on.
        """
        features = self.features(images)
        losses: dict[str, Tensor] = {}
        if proposals is None:
            scores, deltas = self.rpn(features)
            losses |= self.rpn_head.losses(scores, deltas, image_sizes, targets, sampling)
            proposals = self.rpn_head.proposals(scores, deltas, image_sizes, training=True)
        return losses | self._region_losses(features, proposals, image_sizes, targets, sampling)

    def _region_losses(
        self,
        features: Sequence[Tensor],
        proposals: Sequence[Tensor],
        image_sizes: Sizes,
        targets: Sequence[Target],
        sampling: str,
    ) -> dict[str, Tensor]:
        regions = self._sample(0, proposals, targets, sampling)
        losses, _, _ = self._box_losses(0, features, regions, targets)
        return losses | self._mask_losses(0, features, regions, targets)

    def _sample(
        self, stage: int, proposals: Sequence[Tensor], targets: Sequence[Target], sampling: str
    ) -> list[Regions]:
        """Regions of each image, matched and drawn as a stage says."""
        pairs = zip(proposals, targets, strict=True)
        return [
            sample_regions(boxes, target["boxes"].to(boxes.dtype), self.stages[stage], sampling)
            for boxes, target in pairs
        ]

    def _box_losses(
        self,
        stage: int,
        features: Sequence[Tensor],
        regions: list[Regions],
        targets: Sequence[Target],
        embedding: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The losses of a stage's box head, and its logits and deltas."""
        settings = self.stages[stage]
        logits, deltas = self.box_stage(stage, features, [region.boxes for region in regions], embedding)
        labels = region_labels(regions, targets, self.num_classes)
        objects = labels < self.num_classes
        moved = self._of_class(deltas[objects], labels[objects])
        wanted = [
            encode(region.positives, target["boxes"].to(region.boxes.dtype)[region.truth], settings.stds)
            for region, target in zip(regions, targets, strict=True)
        ]
        losses = {
            f"stage{stage}_classification": settings.weight * classification_loss(logits, labels),
            f"stage{stage}_box": settings.weight * box_loss(moved, torch.cat(wanted), len(labels), self.box_beta),
        }
        return losses, logits, deltas

    def _mask_losses(
        self,
        stage: int,
        features: Sequence[Tensor],
        regions: list[Regions],
        targets: Sequence[Target],
        embedding: Tensor | None = None,
    ) -> dict[str, Tensor]:
        logits = self.mask_stage(stage, features, [region.positives for region in regions], embedding)
        pairs = list(zip(regions, targets, strict=True))
        labels = torch.cat([target["labels"][region.truth] for region, target in pairs])
        wanted = [
            mask_targets(target["masks"], region.positives, region.truth, logits.shape[-1]) for region, target in pairs
        ]
        return {f"stage{stage}_mask": self.stages[stage].weight * mask_loss(logits, labels, torch.cat(wanted))}


RULES = (
    *TRUNK,
    ("roi_head.bbox_head.shared_fcs.0.", "box_heads.0.fc1."),
    ("roi_head.bbox_head.shared_fcs.1.", "box_heads.0.fc2."),
    ("roi_head.bbox_head.fc_cls.", "box_heads.0.classes."),
    ("roi_head.bbox_head.fc_reg.", "box_heads.0.deltas."),
    ("roi_head.mask_head.convs.{}.conv.", "mask_heads.0.convs.{}."),
    ("roi_head.mask_head.upsample.", "mask_heads.0.upsample."),
    ("roi_head.mask_head.conv_logits.", "mask_heads.0.logits."),
)


def build(num_classes: int = 80, **options: Any) -> MaskRCNN:
    """Mask R-CNN, R50-FPN as in mmdetection's ``mask-rcnn_r50_fpn_1x_coco``; ``options`` are ``MaskRCNN``'s."""
    return MaskRCNN(num_classes, **options)


@register_model
def mask_rcnn_tiny(pretrained: bool = False, num_classes: int = 10, **options: Any) -> MaskRCNN:
    """For images of about a hundred pixels."""
    network = MaskRCNN(num_classes, **small(without_timms(options), anchor_border=-1.0))
    network.detecting = FEWER
    return network


@register_model
def mask_rcnn_r50_fpn(pretrained: bool = False, num_classes: int = 80, **options: Any) -> MaskRCNN:
    """As ``build``."""
    return MaskRCNN(num_classes, **without_timms(options))


load_official = loader("mask-rcnn_r50_fpn_1x_coco", RULES)
