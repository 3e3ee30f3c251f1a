"""R-CNN: windows, warping and losses against loops; regions of another method."""

import math

import pytest
import timm
import torch

from paperzoo.errors import UserError
from paperzoo.papers import rcnn
from paperzoo.papers.rcnn.regions import warped, windows

SIZES = [(64, 64), (40, 64)]
STDS = (0.1, 0.1, 0.2, 0.2)


def tiny(**options):
    torch.manual_seed(0)
    given = {"num_classes": 3, "regions": 16, "scales": 2, "window": 24, "step": 0.5, **options}
    return timm.create_model("rcnn_tiny", **given).double().eval()


def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_windows_by_hand():
    like = torch.zeros(1, dtype=torch.float64)
    found = windows((20, 30), [10], [1.0], 0.5, like)
    expected = [[x, y, x + 10, y + 10] for y in (0, 5, 10) for x in (0, 5, 10, 15, 20)]
    assert found.tolist() == expected
    tall = windows((20, 30), [10], [4.0], 1.0, like)  # 20 high and 5 wide
    assert tall.tolist() == [[x, 0, x + 5, 20] for x in (0, 5, 10, 15, 20, 25)]
    assert windows((8, 30), [16], [1.0], 1.0, like).tolist() == [[0, 0, 16, 8], [14, 0, 30, 8]]
    assert windows((8, 9), [40], [1.0], 0.3, like).tolist() == [[0, 0, 9, 8]]


@pytest.mark.parametrize("size", [(37, 91), (96, 96), (5, 300)])
def test_windows_cover_the_image_without_gaps(size):
    height, width = size
    for side, ratio in ((12, 0.5), (20, 1.0), (33, 2.0)):
        found = windows(size, [side], [ratio], 0.34, torch.zeros(1, dtype=torch.float64))
        assert found.min() >= 0
        assert found[:, 2].max().item() == pytest.approx(width)
        assert found[:, 3].max().item() == pytest.approx(height)
        sides = found[0, 2:] - found[0, :2]
        for axis in (0, 1):
            gaps = found[:, axis].unique().diff()
            assert (gaps <= 0.34 * sides[axis] + 1e-9).all()


def test_a_region_is_warped_with_what_is_around_it():
    """Against bilinear interpolation by hand at the four points of each cell; beyond the image it is 0."""
    image = images()[:1, :, :20, :30]
    boxes = torch.tensor([[4.0, 2, 24, 14], [-3.0, 5, 12, 19]], dtype=torch.float64)
    crop, context = 8, 2
    found = warped(image, [boxes], crop, context)
    for box, square in zip(boxes.tolist(), found, strict=True):
        scale = crop / (crop - 2 * context)
        centre = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
        sides = [(box[2] - box[0]) * scale, (box[3] - box[1]) * scale]
        for row in range(crop):
            for column in range(crop):
                total = torch.zeros(3, dtype=torch.float64)
                for dy in (0.25, 0.75):
                    for dx in (0.25, 0.75):
                        x = centre[0] + ((column + dx) / crop - 0.5) * sides[0] - 0.5
                        y = centre[1] + ((row + dy) / crop - 0.5) * sides[1] - 0.5
                        total += at(image[0], x, y) / 4
                torch.testing.assert_close(square[:, row, column], total)


def at(image, x, y):
    """Bilinear between pixels, the outermost ones half a pixel further; 0 from a whole pixel beyond the image on."""
    height, width = image.shape[1:]
    if not (-1 <= x <= width and -1 <= y <= height):
        return torch.zeros(3, dtype=torch.float64)
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    left, top = int(x), int(y)
    right, below = min(left + 1, width - 1), min(top + 1, height - 1)
    across, down = x - left, y - top
    upper = image[:, top, left] * (1 - across) + image[:, top, right] * across
    lower = image[:, below, left] * (1 - across) + image[:, below, right] * across
    return upper * (1 - down) + lower * down


@torch.no_grad()
def test_losses_against_a_loop_on_given_regions():
    """The objects' own boxes are regions, too; a region of IoU at least 0.5 is its object's."""
    network = tiny()
    for layer in (network.classes, network.deltas):
        torch.nn.init.normal_(layer.weight, std=0.3)
    truth = [[[8.0, 6, 40, 50], [20, 10, 60, 44]], [[5.0, 5, 45, 38]]]
    labels = [[2, 0], [1]]
    proposals = [
        torch.tensor([[9.0, 8, 42, 48], [0, 0, 20, 20], [22, 8, 60, 40], [30, 30, 50, 60]]).double(),
        torch.tensor([[40.0, 0, 60, 30], [6, 4, 44, 36]]).double(),
    ]
    targets = [
        {"boxes": torch.tensor(boxes).double(), "labels": torch.tensor(own)}
        for boxes, own in zip(truth, labels, strict=True)
    ]
    rows = [  # image, box, object or None
        (0, truth[0][0], 0), (0, truth[0][1], 1), (0, proposals[0][0].tolist(), 0), (0, proposals[0][2].tolist(), 1),
        (0, proposals[0][1].tolist(), None), (0, proposals[0][3].tolist(), None),
        (1, truth[1][0], 0), (1, proposals[1][1].tolist(), 0), (1, proposals[1][0].tolist(), None),
    ]  # fmt: skip
    batch = images()
    classification = moved = 0.0
    for image, box, which in rows:
        pixels = warped(batch[image : image + 1], [torch.tensor([box]).double()], 32, 4)
        deep, pooled = network.features(pixels)
        logits, deltas = network.classes(deep)[0], network.deltas(pooled)[0]
        label = 3 if which is None else labels[image][which]
        classification += math.log(sum(math.exp(v) for v in logits.tolist())) - logits[label].item()
        if which is None:
            continue
        x1, y1, x2, y2 = box
        a1, b1, a2, b2 = truth[image][which]
        code = [
            ((a1 + a2) - (x1 + x2)) / 2 / (x2 - x1) / STDS[0], ((b1 + b2) - (y1 + y2)) / 2 / (y2 - y1) / STDS[1],
            math.log((a2 - a1) / (x2 - x1)) / STDS[2], math.log((b2 - b1) / (y2 - y1)) / STDS[3],
        ]  # fmt: skip
        for value, wanted in zip(deltas[4 * label : 4 * label + 4].tolist(), code, strict=True):
            gap = abs(value - wanted)
            moved += gap * gap / 2 if gap < 1 else gap - 0.5
    found = network.losses(batch, SIZES, targets, proposals)
    assert found["classification"].item() == pytest.approx(classification / len(rows), rel=1e-6)
    assert found["box"].item() == pytest.approx(moved / len(rows), rel=1e-6)


@torch.no_grad()
def test_detections_are_the_same_in_parts(monkeypatch):
    network = tiny()
    torch.nn.init.normal_(network.classes.weight, std=0.3)
    whole = network.detect(images(), SIZES, max_detections=12)
    monkeypatch.setattr("paperzoo.papers.rcnn.network.TOGETHER", 7)
    for one, other in zip(whole, network.detect(images(), SIZES, max_detections=12), strict=True):
        assert len(one["boxes"]) == 12
        for name, value in one.items():
            torch.testing.assert_close(value, other[name])
    logits, deltas = network(images())
    assert logits.shape == (2 * len(network.proposals(images()[:1], [(64, 64)])[0]), 4)
    assert deltas.shape == (len(logits), 12)
    boxes = torch.cat([one["boxes"] for one in whole[1:]])
    assert (boxes[:, 3] <= 40).all()


def test_the_papers_network():
    """AlexNet's fc7 and pool5 on crops of 227 x 227."""
    with torch.device("meta"):
        network = rcnn.build(20)
        deep, pooled = network.features(torch.zeros(2, 3, 227, 227))
    assert (deep.shape, pooled.shape) == ((2, 4096), (2, 9216))
    own = 61_100_840 - 4096 * 1000 - 1000  # torchvision's AlexNet without its last layer
    assert sum(p.numel() for p in network.parameters()) == own + 4097 * 21 + 9217 * 80


def test_wrong_options_are_named():
    with pytest.raises(UserError, match=r"model.context=16: must be less than half of model.crop=32"):
        tiny(context=16)
    with pytest.raises(UserError, match=r"model.backbone=alexnett: is neither alexnet nor in timm's registry"):
        tiny(backbone="alexnett")
    with pytest.raises(UserError, match=r"model.crop=62: must be at least 63 for alexnet"):
        tiny(backbone="alexnet", crop=62)


def test_an_image_without_objects_trains():
    network = tiny().train()
    targets = [{"boxes": torch.zeros(0, 4).double(), "labels": torch.zeros(0, dtype=torch.int64)}] * 2
    losses = network.losses(images(), SIZES, targets)
    assert losses["box"].item() == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
