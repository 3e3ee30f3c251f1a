"""Small detectors and drawn images for tests."""

import torch

from paperzoo.detection.rpn import RPNSettings
from paperzoo.papers import cascade_rcnn, htc, mask_rcnn

CLASSES, STUFF = 5, 7
SMALL = {"backbone": "test_resnet", "channels": 8, "hidden": 16}
RPN = RPNSettings(before_nms=(60, 60), after_nms=(40, 40), size=32)
SIZES = [(64, 96), (50, 70)]


def small(paper, seed=0, **options):
    """A narrow network of a paper, in float64, whose heads' outputs are far from zero."""
    torch.manual_seed(seed)
    module = {"mask_rcnn": mask_rcnn, "cascade_rcnn": cascade_rcnn, "htc": htc}[paper]
    if paper == "htc":
        options = {"stuff_classes": STUFF, **options}
    network = module.build(num_classes=CLASSES, **{**SMALL, "rpn": RPN, **options}).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "deltas" in name and name.endswith("weight"):
                parameter.normal_(std=0.2)
            if "classes" in name and name.endswith("weight"):
                parameter.normal_(std=0.5)
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
    return network


def images(seed=0):
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def target(boxes, size, seed=0):
    """Ellipses in boxes, and a map of labels."""
    random = torch.Generator().manual_seed(seed)
    boxes = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    y, x = torch.meshgrid(*(torch.arange(side) + 0.5 for side in size), indexing="ij")
    masks = [
        ((x - (x1 + x2) / 2) / (x2 - x1)) ** 2 + ((y - (y1 + y2) / 2) / (y2 - y1)) ** 2 <= 0.25
        for x1, y1, x2, y2 in boxes
    ]
    semantic = torch.randint(0, STUFF, size, generator=random)
    semantic[:9, :9] = 255
    return {
        "boxes": boxes,
        "labels": torch.randint(0, CLASSES, (len(boxes),), generator=random),
        "masks": torch.stack(masks) if masks else torch.zeros(0, *size, dtype=torch.bool),
        "semantic": semantic,
    }


def targets():
    """Three objects on the first image, two of them overlapping, one on the second."""
    return [
        target([[8, 6, 40, 50], [20, 10, 60, 44], [70, 30, 92, 60]], SIZES[0]),
        target([[5, 5, 45, 40]], SIZES[1], seed=1),
    ]


def around(found, count=30, seed=0):
    """Proposals near the objects of each image, and some anywhere."""
    random = torch.Generator().manual_seed(seed)
    proposals = []
    for one, (height, width) in zip(found, SIZES, strict=True):
        corner = torch.rand(count, 2, generator=random, dtype=torch.float64) * torch.tensor([width, height]) * 0.7
        sides = torch.rand(count, 2, generator=random, dtype=torch.float64) * 30 + 5
        near = one["boxes"].repeat(6, 1)
        near = near + torch.randn(near.shape, generator=random, dtype=torch.float64) * 4
        own = torch.cat([near, torch.cat([corner, corner + sides], dim=1)])
        limits = torch.tensor([width, height, width, height])
        proposals.append(torch.minimum(own, limits).clamp(min=0))
    return proposals
