"""Sampling: a fixed number of boxes of an image, a part of them objects, on which its losses are computed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paperzoo.detection.boxes import iou
from paperzoo.detection.matching import NOTHING, match

RANDOM, FIRST = "random", "first"
SAMPLINGS = (RANDOM, FIRST)


class Stage(NamedTuple):
    """How a stage of a detector matches, codes and weighs.

    Attributes:
        overlap: a region is an object's from this IoU on, else background.
        stds: usual size of the four numbers by which boxes are moved.
        weight: of the stage's losses.
        low_quality: whether an object also takes the regions that overlap it most (``matching.match``).
        size: regions sampled of an image.
        positives: at most this part of them are objects.
    """

    overlap: float = 0.5
    stds: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    weight: float = 1.0
    low_quality: bool = True
    size: int = 512
    positives: float = 0.25


class Regions(NamedTuple):
    """Sampled regions of an image, those of objects first.

    Attributes:
        boxes: (R, 4).
        truth: (P,) the object of each of the first P.
        added: (P,) bool, whether it is the object's own box and no proposal.
    """

    boxes: Tensor
    truth: Tensor
    added: Tensor

    @property
    def positives(self) -> Tensor:
        """(P, 4)."""
        return self.boxes[: len(self.truth)]


def choose(candidates: Tensor, count: int, sampling: str = RANDOM) -> Tensor:
    """At most ``count`` of ``candidates`` (N,), in their order: drawn, or the first.

    Raises:
        ValueError: ``sampling`` is neither.
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling={sampling}: must be one of {', '.join(SAMPLINGS)}")
    if len(candidates) <= count:
        return candidates
    if sampling == FIRST:
        return candidates[:count]
    drawn = torch.randperm(len(candidates), device=candidates.device)[:count]
    return candidates[drawn.sort().values]


def sample(matches: Tensor, size: int, positives: float, sampling: str = RANDOM) -> tuple[Tensor, Tensor]:
    """Sample ``size`` boxes, at most ``int(size * positives)`` of them objects', the rest background.

    Args:
        matches: (N,), see ``matching.match``; those ignored are never taken.
        size: how many; fewer where there are not as many.
        positives: the part of objects.
        sampling: ``random`` or ``first``.

    Returns:
        Indices of those of objects and of those of background, each in ascending order.
    """
    found = choose((matches >= 0).nonzero().flatten(), int(size * positives), sampling)
    empty = choose((matches == NOTHING).nonzero().flatten(), size - len(found), sampling)
    return found, empty


def sample_regions(proposals: Tensor, objects: Tensor, stage: Stage, sampling: str = RANDOM) -> Regions:
    """Match an image's proposals (N, 4) with its objects' boxes (G, 4), put these before them, and sample.

    The objects' own boxes take no part in matching: each is its own object's, so that every object is trained on.
    """
    matches = match(iou(objects, proposals), stage.overlap, stage.overlap, low_quality=stage.low_quality)
    own = torch.arange(len(objects), device=matches.device)
    boxes, matches = torch.cat([objects, proposals]), torch.cat([own, matches])
    found, empty = sample(matches, stage.size, stage.positives, sampling)
    return Regions(boxes[torch.cat([found, empty])], matches[found], found < len(objects))


def region_labels(regions: Sequence[Regions], targets: Sequence[dict[str, Any]], background: int) -> Tensor:
    """Classes of the regions of a batch, image after image: (R,) int64."""
    labels = []
    for region, target in zip(regions, targets, strict=True):
        empty = target["labels"].new_full((len(region.boxes) - len(region.truth),), background)
        labels += [target["labels"][region.truth], empty]
    return torch.cat(labels)
