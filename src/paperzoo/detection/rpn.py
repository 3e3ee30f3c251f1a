"""Region proposal network (Faster R-CNN, section 3.1) on the levels of a pyramid."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from paperzoo.detection import anchors, initial
from paperzoo.detection.boxes import clip, decode, encode, iou
from paperzoo.detection.losses import box_loss, objectness_loss
from paperzoo.detection.matching import IGNORED, match
from paperzoo.detection.nms import grouped_nms
from paperzoo.detection.sampling import RANDOM, sample


class RPNSettings(NamedTuple):
    """How proposals are made and trained.

    Attributes:
        scale: side of an anchor in strides of its level.
        ratios: height / width.
        positive, negative, minimum: IoU of ``matching.match``.
        size, positives: anchors sampled of an image, and the part of them that is an object's.
        border: see ``anchors.inside``.
        beta: of the smooth L1 loss; 0 is L1.
        nms: IoU of suppression.
        before_nms: the best of each level that are suppressed, at evaluation and in training.
        after_nms: the best that are left, likewise.
    """

    scale: float = 8.0
    ratios: tuple[float, ...] = anchors.RATIOS
    positive: float = 0.7
    negative: float = 0.3
    minimum: float = 0.3
    size: int = 256
    positives: float = 0.5
    border: float = 0.0
    beta: float = 1 / 9
    nms: float = 0.7
    before_nms: tuple[int, int] = (1000, 2000)
    after_nms: tuple[int, int] = (1000, 2000)


def resized(settings: RPNSettings, scale: float | None, border: float | None, proposals: int | None) -> RPNSettings:
    """Settings with another side and border of anchors, and ``proposals`` in training, half as many in evaluation."""
    if border is not None:
        settings = settings._replace(border=border)
    if scale is not None:
        settings = settings._replace(scale=scale)
    if proposals is not None:
        counts = (max(1, proposals // 2), proposals)
        settings = settings._replace(before_nms=counts, after_nms=counts)
    return settings


class RPN(nn.Module):
    """A 3x3 convolution shared by two 1x1 ones: a logit and four deltas for each of A anchors a place."""

    def __init__(self, channels: int, strides: Sequence[int], settings: RPNSettings) -> None:
        super().__init__()
        self.strides, self.settings = list(strides), settings
        count = len(settings.ratios)
        self.shared = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, count, 1)
        self.deltas = nn.Conv2d(channels, 4 * count, 1)  # anchor after anchor, four each
        initial.normal(0.01, self.shared, self.objectness, self.deltas)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Levels (B, C, h, w) -> logits (B, A, h, w) and deltas (B, 4 A, h, w) of each."""
        hidden = [self.shared(x).relu_() for x in features]
        return [self.objectness(x) for x in hidden], [self.deltas(x) for x in hidden]

    def anchors(self, scores: Sequence[Tensor]) -> list[Tensor]:
        """Anchors of each level's maps: (h * w * A, 4), in the order of ``flattened``, in the weights' precision."""
        found, dtype = [], self.shared.weight.dtype  # under autocast that of the maps is too coarse for pixels
        for level, stride in zip(scores, self.strides, strict=True):
            base = anchors.base_anchors(self.settings.scale * stride, self.settings.ratios, dtype)
            found.append(anchors.grid_anchors(base.to(level.device), (level.shape[-2], level.shape[-1]), stride))
        return found

    @torch.no_grad()
    def proposals(
        self,
        scores: Sequence[Tensor],
        deltas: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        training: bool = False,
    ) -> list[Tensor]:
        """The regions (P, 4) of each image, best first; no gradient flows into them."""
        own = self.anchors(scores)
        logits = [flattened(x, 1)[..., 0] for x in scores]  # (B, N of the level)
        moves = [flattened(x, 4) for x in deltas]
        return [
            self._of_image([x[i] for x in logits], [x[i] for x in moves], own, size, training)
            for i, size in enumerate(image_sizes)
        ]

    def _of_image(
        self,
        logits: list[Tensor],
        deltas: list[Tensor],
        own: list[Tensor],
        size: tuple[int, int],
        training: bool,
    ) -> Tensor:
        before, after = self.settings.before_nms[training], self.settings.after_nms[training]
        scores, boxes, levels = [], [], []
        for level, (logit, move, anchor) in enumerate(zip(logits, deltas, own, strict=True)):
            probability = logit.to(anchor.dtype).sigmoid()
            if len(logit) > before:
                probability, best = probability.sort(descending=True)
                probability, best = probability[:before], best[:before]
                move, anchor = move[best], anchor[best]  # noqa: PLW2901
            scores.append(probability)
            boxes.append(clip(decode(anchor, move), size))
            levels.append(torch.full((len(probability),), level, device=logit.device))
        score, box, group = torch.cat(scores), torch.cat(boxes), torch.cat(levels)
        valid = ((box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])).nonzero().flatten()
        score, box, group = score[valid], box[valid], group[valid]
        return box[grouped_nms(box, score, group, self.settings.nms)[:after]]

    def losses(
        self,
        scores: Sequence[Tensor],
        deltas: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        targets: Sequence[dict[str, Any]],
        sampling: str = RANDOM,
    ) -> dict[str, Tensor]:
        """``rpn_objectness`` and ``rpn_box`` of a batch, divided by the number of anchors sampled in it."""
        own = torch.cat(self.anchors(scores))
        logits = torch.cat([flattened(x, 1)[..., 0] for x in scores], dim=1)  # (B, N)
        moves = torch.cat([flattened(x, 4) for x in deltas], dim=1)  # (B, N, 4)
        sampled_logits, wanted, sampled_moves, codes, count = [], [], [], [], 0
        for i, (size, target) in enumerate(zip(image_sizes, targets, strict=True)):
            truth = target["boxes"].to(own.dtype)
            matches = self._matches(own, truth, size)
            found, empty = sample(matches, self.settings.size, self.settings.positives, sampling)
            count += max(1, len(found)) + max(1, len(empty))
            sampled_logits += [logits[i, found], logits[i, empty]]
            wanted += [logits.new_ones(len(found)), logits.new_zeros(len(empty))]
            sampled_moves.append(moves[i, found])
            codes.append(encode(own[found], truth[matches[found]]))
        return {
            "rpn_objectness": objectness_loss(torch.cat(sampled_logits), torch.cat(wanted), count),
            "rpn_box": box_loss(torch.cat(sampled_moves), torch.cat(codes), count, self.settings.beta),
        }

    def _matches(self, own: Tensor, truth: Tensor, size: tuple[int, int]) -> Tensor:
        """Which object each anchor is to find; anchors over the edge take no part."""
        settings = self.settings
        inside = anchors.inside(own, size, settings.border).nonzero().flatten()
        matches = own.new_full((len(own),), IGNORED, dtype=torch.int64)
        overlaps = iou(truth, own[inside])
        matches[inside] = match(overlaps, settings.positive, settings.negative, settings.minimum, low_quality=True)
        return matches


def flattened(maps: Tensor, numbers: int) -> Tensor:
    """(B, A * numbers, h, w) -> (B, h * w * A, numbers)."""
    batch, _, height, width = maps.shape
    parts = maps.view(batch, -1, numbers, height, width)
    return parts.permute(0, 3, 4, 1, 2).reshape(batch, -1, numbers)
