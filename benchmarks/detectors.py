"""Time of a training step and of inference: our Mask R-CNN against torchvision's, and Cascade Mask R-CNN and HTC.

    python benchmarks/detectors.py [rounds=5] [height=512] [width=640] [backbone=resnet50] [threads=2]

One drawn image with eight objects. All detectors in turn in one process, several rounds, the order turned about in
every other. A training step is the losses, their gradients and SGD. Torchvision's Mask R-CNN has our settings: the
number of proposals, of sampled regions, of detections of an image, the trained stages of the trunk, running statistics;
only the weights are drawn differently. Prints the median seconds of each, and the ratio to torchvision's with its
spread over the rounds.

Goal: our Mask R-CNN takes at most 1.05 times torchvision's time.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from paperzoo.papers import cascade_rcnn, htc, mask_rcnn

CLASSES, STUFF, OBJECTS, PROPOSALS, DETECTIONS = 80, 183, 8, 1000, 100
THEIRS = "torchvision Mask R-CNN"
DEFAULTS = {"rounds": "5", "height": "512", "width": "640", "backbone": "resnet50", "threads": "2"}


class Theirs(nn.Module):
    """Torchvision's with the settings of ``paperzoo.papers.mask_rcnn``, behind the same two methods as ours."""

    def __init__(self, backbone: str, height: int, width: int) -> None:
        super().__init__()
        trunk = resnet_fpn_backbone(backbone_name=backbone, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=3)
        self.network = MaskRCNN(
            trunk,
            CLASSES + 1,
            min_size=min(height, width),
            max_size=max(height, width),
            image_mean=[0.0] * 3,
            image_std=[1.0] * 3,
            rpn_post_nms_top_n_train=PROPOSALS,
            box_score_thresh=0.0,
            box_detections_per_img=DETECTIONS,
        )

    def train(self, mode: bool = True) -> "Theirs":
        """Batch normalisation by running statistics, as in ours."""
        super().train(mode)
        for module in self.network.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def losses(self, images: torch.Tensor, _: Any, targets: Any) -> dict[str, torch.Tensor]:
        """See ``tasks.detection``."""
        own = [{**one, "labels": one["labels"] + 1, "masks": one["masks"].to(torch.uint8)} for one in targets]
        return self.network(list(images), own)

    def detect(self, images: torch.Tensor, *_: Any, **__: Any) -> Any:
        """See ``tasks.detection``."""
        return self.network(list(images))


def detectors(backbone: str, height: int, width: int) -> dict[str, nn.Module]:
    """By name; the first is what the others are compared with."""
    own: dict[str, Any] = {"backbone": backbone}
    return {
        THEIRS: Theirs(backbone, height, width),
        "Mask R-CNN": mask_rcnn.build(CLASSES, **own),
        "Cascade Mask R-CNN": cascade_rcnn.build(CLASSES, **own),
        "HTC": htc.build(CLASSES, STUFF, **own),
    }


def drawn(height: int, width: int) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """An image and its objects, whose masks are their boxes."""
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(OBJECTS, 2, generator=random) * torch.tensor([width, height]) * 0.6
    sides = torch.rand(OBJECTS, 2, generator=random) * torch.tensor([width, height]) * 0.3 + 8
    boxes = torch.cat([corners, corners + sides], dim=1)
    masks = torch.zeros(OBJECTS, height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.long().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    target = {
        "boxes": boxes,
        "labels": torch.randint(CLASSES, (OBJECTS,), generator=random),
        "masks": masks,
        "semantic": torch.randint(STUFF, (height, width), generator=random),
    }
    return torch.randn(1, 3, height, width, generator=random), [target]


def training(network: Any, images: torch.Tensor, targets: list[dict[str, Any]]) -> Callable[[], Any]:
    """A step."""
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1e-5, momentum=0.9)
    size = [tuple(images.shape[2:])]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        sum(network.train().losses(images, size, targets).values()).backward()
        optimizer.step()

    return step


def inference(network: Any, images: torch.Tensor) -> Callable[[], Any]:
    """The detections of an image: as many as are allowed, since any score is enough."""
    size = [tuple(images.shape[2:])]

    def step() -> None:
        with torch.no_grad():
            network.eval().detect(images, size, score_threshold=0.0, max_detections=DETECTIONS)

    return step


def measure(steps: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round, the first of which is left out."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in list(steps.items())[:: (-1) ** number]:
            start = time.perf_counter()
            step()
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def show(what: str, times: dict[str, list[float]]) -> None:
    """A line for each."""
    print(what)
    for name, seconds in times.items():
        ratios = [own / other for own, other in zip(seconds, times[THEIRS], strict=True)]
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"  {name:<24} {statistics.median(seconds):8.3f} s  {spread}")


def main(given: dict[str, str]) -> None:
    """Measure and print."""
    torch.set_num_threads(int(given["threads"]))
    torch.manual_seed(0)
    height, width = int(given["height"]), int(given["width"])
    networks = detectors(given["backbone"], height, width)
    images, targets = drawn(height, width)
    print(f"{given['backbone']}, {height} x {width}, {given['threads']} threads, torch {torch.__version__}")
    steps = {name: training(network, images, targets) for name, network in networks.items()}
    show("training step", measure(steps, int(given["rounds"])))
    steps = {name: inference(network, images) for name, network in networks.items()}
    show("inference", measure(steps, int(given["rounds"])))


if __name__ == "__main__":
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    if unknown := words.keys() - DEFAULTS.keys():
        sys.exit(f"{', '.join(sorted(unknown))}: must be of {', '.join(DEFAULTS)}")
    main({**DEFAULTS, **words})
