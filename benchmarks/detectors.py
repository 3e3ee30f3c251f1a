"""Time of a training step and of inference: our Mask R-CNN against torchvision's, and Cascade Mask R-CNN and HTC.

    python benchmarks/detectors.py [rounds=5] [height=512] [width=640] [backbone=resnet50] [objects=8] [threads=2]
        [proposals=1000] [regions=512] [detections=100]

One drawn image with ``objects``. All detectors in turn in one process, several rounds, the order turned about in
every other. A training step is the losses, their gradients and SGD. Torchvision's Mask R-CNN has our settings and our
weights, so that both find the same proposals and train on as many regions and masks: the numbers of proposals, of
sampled regions, of detections of an image, which proposals are objects' (low-quality matches are), samples of a bin in
RoIAlign (adaptive; torchvision's own default is 2 x 2), the trained stages of the trunk, running statistics. What is
left different is torchvision's RoIAlign without the shift by half a pixel, rounded anchors, and a background among the
outputs of boxes and masks. Prints the median seconds of each, the ratio to torchvision's with its spread over the
rounds, and how many regions and masks a step computes: the number of masks is that of the positives among the sampled
regions, and varies. With objects=150 it is 128, the most, for all stages of all detectors.

Goal: our Mask R-CNN takes at most 1.05 times torchvision's time.
"""

import re
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import MultiScaleRoIAlign

from paperzoo.papers import cascade_rcnn, htc, mask_rcnn

CLASSES, STUFF = 80, 183
THEIRS = "torchvision Mask R-CNN"
LEVELS = ["0", "1", "2", "3"]  # of torchvision's pyramid that regions are taken from
NAMES = (  # our parameters' and torchvision's
    ("pyramid.laterals.{}.", "backbone.fpn.inner_blocks.{}.0."),
    ("pyramid.outputs.{}.", "backbone.fpn.layer_blocks.{}.0."),
    ("backbone.body.", "backbone.body."),
    ("rpn_head.shared.", "rpn.head.conv.0.0."),
    ("rpn_head.objectness.", "rpn.head.cls_logits."),
    ("rpn_head.deltas.", "rpn.head.bbox_pred."),
    ("box_heads.0.fc1.", "roi_heads.box_head.fc6."),
    ("box_heads.0.fc2.", "roi_heads.box_head.fc7."),
    ("box_heads.0.classes.", "roi_heads.box_predictor.cls_score."),
    ("box_heads.0.deltas.", "roi_heads.box_predictor.bbox_pred."),
    ("mask_heads.0.convs.{}.", "roi_heads.mask_head.{}.0."),
    ("mask_heads.0.upsample.", "roi_heads.mask_predictor.conv5_mask."),
    ("mask_heads.0.logits.", "roi_heads.mask_predictor.mask_fcn_logits."),
)
DEFAULTS = {
    "rounds": "5", "height": "512", "width": "640", "backbone": "resnet50", "objects": "8", "threads": "2",
    "proposals": "1000", "regions": "512", "detections": "100",
}  # fmt: skip


class Sizes(NamedTuple):
    """How much of an image is computed: proposals in training, the sample of them, detections."""

    proposals: int
    regions: int
    detections: int

    @property
    def ours(self) -> dict[str, int]:
        """Options of our detectors: none where they are the papers' own, as ``proposals`` changes evaluation's, too."""
        given = {"proposals": self.proposals, "regions": self.regions}
        return {name: value for name, value in given.items() if value != int(DEFAULTS[name])}

    @property
    def theirs(self) -> dict[str, int]:
        """Torchvision's, which has 1,000 proposals at evaluation, as ours have."""
        fewer = max(1, self.proposals // 2) if "proposals" in self.ours else self.proposals
        return {
            "rpn_post_nms_top_n_train": self.proposals,
            "rpn_post_nms_top_n_test": fewer,
            "box_batch_size_per_image": self.regions,
            "box_detections_per_img": self.detections,
        }


class Theirs(nn.Module):
    """Torchvision's with the settings of ``paperzoo.papers.mask_rcnn``, behind the same two methods as ours."""

    def __init__(self, backbone: str, height: int, width: int, sizes: Sizes) -> None:
        super().__init__()
        trunk = resnet_fpn_backbone(backbone_name=backbone, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=3)
        self.network = MaskRCNN(
            trunk,
            CLASSES + 1,
            min_size=min(height, width),
            max_size=max(height, width),
            image_mean=[0.0] * 3,
            image_std=[1.0] * 3,
            box_roi_pool=MultiScaleRoIAlign(LEVELS, 7, sampling_ratio=0),
            mask_roi_pool=MultiScaleRoIAlign(LEVELS, 14, sampling_ratio=0),
            box_score_thresh=0.0,
            **sizes.theirs,
        )
        self.network.roi_heads.proposal_matcher.allow_low_quality_matches = True

    def take(self, ours: nn.Module) -> None:
        """The weights of ``paperzoo.papers.mask_rcnn``'s network; what is background's alone is zero."""
        state = self.network.state_dict()
        for name, value in ours.state_dict().items():
            theirs = renamed(name)
            shape = state[theirs].shape
            if theirs.startswith("roi_heads.box_predictor.cls_score"):
                state[theirs] = value.roll(1, 0)  # their background is the first class
            else:
                state[theirs] = (
                    torch.cat([value.new_zeros(shape[0] - len(value), *shape[1:]), value]) if shape else value
                )
        self.network.load_state_dict(state)

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


def renamed(name: str) -> str:
    """Torchvision's name of a parameter of ours."""
    for ours, theirs in NAMES:
        pattern = re.escape(ours).replace(r"\{\}", r"(\d+)")
        if found := re.match(pattern, name):
            return theirs.format(*found.groups()) + name[found.end() :]
    raise ValueError(f"{name}: has no counterpart in torchvision")


def detectors(backbone: str, height: int, width: int, sizes: Sizes) -> dict[str, nn.Module]:
    """By name; the first is what the others are compared with."""
    own: dict[str, Any] = {"backbone": backbone, **sizes.ours}
    theirs, ours = Theirs(backbone, height, width, sizes), mask_rcnn.build(CLASSES, **own)
    theirs.take(ours)
    return {
        THEIRS: theirs,
        "Mask R-CNN": ours,
        "Cascade Mask R-CNN": cascade_rcnn.build(CLASSES, **own),
        "HTC": htc.build(CLASSES, STUFF, **own),
    }


def drawn(height: int, width: int, objects: int) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """An image and its objects, whose masks are their boxes."""
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(objects, 2, generator=random) * torch.tensor([width, height]) * 0.6
    sides = torch.rand(objects, 2, generator=random) * torch.tensor([width, height]) * 0.3 + 8
    boxes = torch.cat([corners, corners + sides], dim=1)
    masks = torch.zeros(objects, height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.long().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    target = {
        "boxes": boxes,
        "labels": torch.randint(CLASSES, (objects,), generator=random),
        "masks": masks,
        "semantic": torch.randint(STUFF, (height, width), generator=random),
    }
    return torch.randn(1, 3, height, width, generator=random), [target]


def training(network: Any, images: torch.Tensor, targets: list[dict[str, Any]], _: Sizes) -> Callable[[], Any]:
    """A step."""
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1e-5, momentum=0.9)
    size = [tuple(images.shape[2:])]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        sum(network.train().losses(images, size, targets).values()).backward()
        optimizer.step()

    return step


def inference(network: Any, images: torch.Tensor, _: Any, sizes: Sizes) -> Callable[[], Any]:
    """The detections of an image: as many as are allowed, since any score is enough."""
    size = [tuple(images.shape[2:])]

    def step() -> None:
        with torch.no_grad():
            network.eval().detect(images, size, score_threshold=0.0, max_detections=sizes.detections)

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


def work_of(network: nn.Module, step: Callable[[], Any]) -> str:
    """How many regions and masks a step computes."""
    rows = {"regions": 0, "masks": 0}

    def counter(what: str) -> Callable[..., None]:
        def count(_: Any, given: tuple[torch.Tensor, ...], __: Any) -> None:
            rows[what] += len(given[0])

        return count

    hooks = []
    for name, module in network.named_modules():
        if re.search(r"(box_heads\.\d|roi_heads\.box_head)$", name):
            hooks.append(module.register_forward_hook(counter("regions")))
        if re.search(r"(mask_heads\.\d\.logits|mask_fcn_logits)$", name):
            hooks.append(module.register_forward_hook(counter("masks")))
    step()
    for hook in hooks:
        hook.remove()
    return ", ".join(f"{count:,} {what}" for what, count in rows.items())


def compare(what: str, networks: dict[str, nn.Module], steps: dict[str, Callable[[], Any]], rounds: int) -> None:
    """A line for each."""
    print(what)
    for name, seconds in (times := measure(steps, rounds)).items():
        ratios = [own / other for own, other in zip(seconds, times[THEIRS], strict=True)]
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        work = work_of(networks[name], steps[name])
        print(f"  {name:<24} {statistics.median(seconds):8.3f} s  {spread:<24} {work}")


def main(given: dict[str, str]) -> None:
    """Measure and print."""
    torch.set_num_threads(int(given["threads"]))
    torch.manual_seed(0)
    height, width = int(given["height"]), int(given["width"])
    sizes = Sizes(int(given["proposals"]), int(given["regions"]), int(given["detections"]))
    networks = detectors(given["backbone"], height, width, sizes)
    images, targets = drawn(height, width, int(given["objects"]))
    print(f"{given['backbone']}, {height} x {width}, {given['threads']} threads, torch {torch.__version__}")
    rounds = int(given["rounds"])
    for what, make in (("training step", training), ("inference", inference)):
        compare(what, networks, {name: make(one, images, targets, sizes) for name, one in networks.items()}, rounds)


if __name__ == "__main__":
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    if unknown := words.keys() - DEFAULTS.keys():
        sys.exit(f"{', '.join(sorted(unknown))}: must be of {', '.join(DEFAULTS)}")
    main({**DEFAULTS, **words})
