"""R-CNN: each region is warped to a square and classified by a network of its own pass."""

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from timm.models import register_model
from torch import Tensor, nn
from torchvision.models import alexnet

from paperzoo.detection import initial
from paperzoo.detection.backbone import NORMS, without_timms
from paperzoo.detection.boxes import clip, decode, encode
from paperzoo.detection.losses import box_loss, classification_loss
from paperzoo.detection.nms import multiclass_nms
from paperzoo.detection.sampling import RANDOM, Stage, region_labels, sample_regions
from paperzoo.detection.small import FEWER, TRUNK, with_branches
from paperzoo.errors import UserError
from paperzoo.papers.rcnn.regions import warped, windows

ALEXNET, LEAST = "alexnet", 63  # pixels; its last map would have no place below that
RATIOS = (0.5, 1.0, 2.0)  # height / width of windows
TOGETHER = 256  # regions of one pass of an evaluation
Sizes = Sequence[tuple[int, int]]


class Features(nn.Module):
    """Two vectors of a region's pixels: of the last layer, and of the last pooled map.

    Args:
        name: ``alexnet``, whose two are fc7 and pool5, or in timm's registry, where both are the pooled last map.
        norm_eval: batch normalisation by running statistics in training, too.
        options: of the network.

    Raises:
        UserError: there is no such network.
    """

    def __init__(self, name: str, norm_eval: bool, **options: Any) -> None:
        super().__init__()
        self.norm_eval, self.deep = norm_eval, nn.Sequential()
        if name == ALEXNET:
            whole = alexnet(weights=None)
            self.pooled = nn.Sequential(whole.features, whole.avgpool, nn.Flatten())
            self.deep = whole.classifier[:6]  # without fc8
            self.widths = (4096, 9216)
        elif timm.is_model(name):
            trunk: Any = timm.create_model(name, pretrained=False, num_classes=0, **options)
            self.pooled = trunk
            self.widths = (trunk.num_features, trunk.num_features)
        else:
            raise UserError(f"model.backbone={name}: is neither {ALEXNET} nor in timm's registry")
        self.train()

    def train(self, mode: bool = True) -> "Features":
        """See ``norm_eval``."""
        super().train(mode)
        for module in self.modules() if mode and self.norm_eval else ():
            if isinstance(module, NORMS):
                module.eval()
        return self

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(R, 3, S, S) -> (R, widths[0]), (R, widths[1])."""
        pooled = self.pooled(pixels)
        return self.deep(pooled), pooled


class RCNN(nn.Module):
    """Girshick et al., 2014: features are computed for each region by itself.

    Args:
        num_classes: K, without background.
        backbone: see ``Features``; ``options`` are of it.
        norm_eval: likewise.
        crop, context: pixels, see ``regions.warped``.
        window: side of the smallest windows in pixels; there are ``scales`` sizes, each the root of 2 larger.
        step: see ``regions.windows``.
        regions: of an image that are trained on, a quarter of them of objects.

    Raises:
        UserError: nothing of the square is left for the region, or it is too small for AlexNet.
    """

    detecting: Mapping[str, Any] = {}

    def __init__(
        self,
        num_classes: int = 80,
        *,
        backbone: str = ALEXNET,
        norm_eval: bool = True,
        crop: int = 227,
        context: int = 16,
        window: float = 48.0,
        scales: int = 7,
        step: float = 0.34,
        regions: int = 64,
        **options: Any,
    ) -> None:
        super().__init__()
        if crop <= 2 * context:
            raise UserError(f"model.context={context}: must be less than half of model.crop={crop}")
        if backbone == ALEXNET and crop < LEAST:
            raise UserError(f"model.crop={crop}: must be at least {LEAST} for {ALEXNET}")
        self.num_classes, self.crop, self.context, self.step = num_classes, crop, context, step
        self.sides = [window * 2 ** (i / 2) for i in range(scales)]
        self.stage = Stage(size=regions, low_quality=False)
        self.features = Features(backbone, norm_eval, **options)
        deep, pooled = self.features.widths
        self.classes = nn.Linear(deep, num_classes + 1)  # the background last
        self.deltas = nn.Linear(pooled, 4 * num_classes)
        initial.normal(0.01, self.classes)
        initial.normal(0.001, self.deltas)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> logits (R, K + 1) and deltas (R, 4 K) of all windows, image after image."""
        every = self.proposals(images, [(images.shape[2], images.shape[3])] * len(images))
        found = [self._in_parts(image, boxes) for image, boxes in zip(images, every, strict=True)]
        return torch.cat([logits for logits, _ in found]), torch.cat([deltas for _, deltas in found])

    def proposals(self, images: Tensor, image_sizes: Sizes) -> list[Tensor]:
        """The windows (P, 4) of each image."""
        return [windows(size, self.sides, RATIOS, self.step, images) for size in image_sizes]

    def _judged(self, images: Tensor, regions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        deep, pooled = self.features(warped(images, regions, self.crop, self.context))
        return self.classes(deep), self.deltas(pooled)

    def _in_parts(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Likewise of one image's regions, a few at a time: their pixels take more memory than the image."""
        parts = [self._judged(image[None], [part]) for part in boxes.split(TOGETHER)]
        return torch.cat([logits for logits, _ in parts]), torch.cat([deltas for _, deltas in parts])

    def losses(
        self,
        images: Tensor,
        image_sizes: Sizes,
        targets: Sequence[dict[str, Any]],
        proposals: Sequence[Tensor] | None = None,
        sampling: str = RANDOM,
    ) -> dict[str, Tensor]:
        """``classification`` and ``box`` of sampled regions, divided by their number; see ``tasks.detection``.

        Args:
            images, image_sizes, targets: of a batch.
            proposals: regions (P, 4) of each image, as a method like selective search finds them; None: windows.
            sampling: ``random`` or ``first``.
        """
        boxes = self.proposals(images, image_sizes) if proposals is None else list(proposals)
        truth = [target["boxes"].to(images.dtype) for target in targets]
        regions = [
            sample_regions(own, objects, self.stage, sampling) for own, objects in zip(boxes, truth, strict=True)
        ]
        logits, deltas = self._judged(images, [region.boxes for region in regions])
        labels = region_labels(regions, targets, self.num_classes)
        rows = (labels < self.num_classes).nonzero().flatten()
        moved = deltas.view(len(deltas), self.num_classes, 4)[rows, labels[rows]]
        wanted = [
            encode(region.positives, objects[region.truth], self.stage.stds)
            for region, objects in zip(regions, truth, strict=True)
        ]
        return {
            "classification": classification_loss(logits, labels),
            "box": box_loss(moved, torch.cat(wanted), len(labels), beta=1.0),
        }

    @torch.no_grad()
    def detect(
        self,
        images: Tensor,
        image_sizes: Sizes,
        proposals: Sequence[Tensor] | None = None,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.3,
        max_detections: int = 100,
    ) -> list[dict[str, Tensor]]:
        """The objects of each image, in evaluation mode; see ``tasks.detection`` and ``losses``."""
        every = self.proposals(images, image_sizes) if proposals is None else list(proposals)
        found = []
        for image, boxes, size in zip(images, every, image_sizes, strict=True):
            logits, deltas = self._in_parts(image, boxes)
            scores = logits.to(boxes.dtype).softmax(dim=1)[:, :-1]
            moved = clip(decode(boxes, deltas, self.stage.stds), size)
            own, values, labels, _ = multiclass_nms(moved, scores, score_threshold, nms_threshold, max_detections)
            found.append({"boxes": own, "scores": values, "labels": labels})
        return found


def build(num_classes: int = 80, **options: Any) -> RCNN:
    """R-CNN on AlexNet, with crops of 227 x 227 as in the paper; ``options`` are ``RCNN``'s."""
    return RCNN(num_classes, **options)


OF_TINY: dict[str, Any] = {
    "backbone": TRUNK, "norm_eval": False, "crop": 32, "context": 4, "window": 20.0, "scales": 3, "regions": 32,
}  # fmt: skip


@register_model
def rcnn_tiny(pretrained: bool = False, num_classes: int = 10, **options: Any) -> RCNN:
    """For images of about a hundred pixels."""
    network = RCNN(num_classes, **with_branches({**OF_TINY, **without_timms(options)}))
    network.detecting = FEWER
    return network


@register_model
def rcnn_alexnet(pretrained: bool = False, num_classes: int = 80, **options: Any) -> RCNN:
    """As ``build``."""
    return RCNN(num_classes, **without_timms(options))
