"""RetinaNet: with torchvision's weights it computes what torchvision's own computes; its losses written out."""

import math
import re

import pytest
import timm
import torch
import torchvision
from torch.nn import BatchNorm2d
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from paperzoo.detection.matching import IGNORED, NOTHING
from paperzoo.errors import UserError
from paperzoo.papers import faster_rcnn, retinanet
from paperzoo.papers.retinanet.losses import box_losses, classification_losses, over_positives

SIZES = [(96, 128), (96, 128)]  # theirs resizes all to one shorter side
OWN = {"min_size": 96, "max_size": 128, "_skip_resize": True, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}


@pytest.fixture(scope="module")
def pair():
    """Theirs, and ours with its weights; batch normalisation with statistics of its own, scores far from the prior."""
    torch.manual_seed(0)
    theirs = torchvision.models.detection.retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=6, **OWN
    )
    for module in theirs.modules():
        if isinstance(module, BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.eval()
    torch.nn.init.normal_(theirs.head.classification_head.cls_logits.weight, std=0.2)
    ours = retinanet.build(6)
    retinanet.load_official(ours, theirs.state_dict())
    return theirs, ours


def images():
    return torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(1))


@pytest.mark.full
@torch.no_grad()
def test_outputs_anchors_and_detections_are_torchvisions(pair):
    theirs, ours = (network.eval() for network in pair)
    batch, heads, anchors = images(), [], []
    hooks = [
        theirs.head.register_forward_hook(lambda _, __, output: heads.append(output)),
        theirs.anchor_generator.register_forward_hook(lambda _, __, output: anchors.append(output[0])),
    ]
    expected = theirs(list(batch))
    for hook in hooks:
        hook.remove()
    outputs, own, _ = ours._outputs(batch, SIZES)
    assert torch.equal(own, anchors[0])
    for name, value in heads[0].items():
        torch.testing.assert_close(outputs[name], value, rtol=1e-4, atol=1e-4)
    found = ours.detect(batch, SIZES)
    assert sum(len(one["boxes"]) for one in found) > 20
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one["labels"], other["labels"])
        torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(one["boxes"], other["boxes"], rtol=1e-4, atol=1e-3)


@pytest.mark.full
def test_losses_are_torchvisions(pair):
    theirs, ours = pair
    targets = [
        {"boxes": torch.tensor([[10.0, 8, 60, 70], [70, 20, 120, 90]]), "labels": torch.tensor([0, 3])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    batch = images()
    theirs.train()
    for module in theirs.modules():
        if isinstance(module, BatchNorm2d):
            module.eval()
    expected = theirs(list(batch), targets)
    found = ours.train().losses(batch, SIZES, targets)
    assert found["classification"].item() == pytest.approx(expected["classification"].item(), rel=1e-4)
    assert found["box"].item() == pytest.approx(expected["bbox_regression"].item(), rel=1e-4)
    assert found["box"].item() > 0
    name = "head.classification_head.conv.1.0.weight"
    (own,) = torch.autograd.grad(sum(found.values()), ours.get_parameter(name))
    (other,) = torch.autograd.grad(sum(expected.values()), theirs.get_parameter(name))
    assert (own - other).abs().max() < 1e-4 * other.abs().max()


def test_upon_the_same_features_losses_and_detections_are_torchvisions():
    """A small trunk, scores far from the prior, an image without objects and one that is padded."""
    ours = tiny()
    for head in (ours.head.classification_head, ours.head.regression_head):
        for layer in head.conv:
            torch.nn.init.kaiming_normal_(layer[0].weight)
    torch.nn.init.normal_(ours.head.classification_head.cls_logits.weight, std=0.3)
    torch.nn.init.normal_(ours.head.regression_head.bbox_reg.weight, std=0.02)
    theirs = torchvision.models.detection.RetinaNet(
        ours.backbone, 3, anchor_generator=ours.anchor_generator, head=ours.head, **{**OWN, "_skip_resize": True}
    )
    random = torch.Generator().manual_seed(2)
    batch = torch.randn(3, 3, 96, 128, generator=random, dtype=torch.float64)
    batch[2, :, :, 100:] = 0
    sizes = [(96, 128), (96, 128), (96, 100)]
    single = [image[:, :h, :w] for image, (h, w) in zip(batch, sizes, strict=True)]
    targets = [
        {"boxes": torch.tensor([[10.0, 8, 50, 60], [70, 20, 95, 45]]).double(), "labels": torch.tensor([0, 2])},
        {"boxes": torch.zeros(0, 4).double(), "labels": torch.zeros(0, dtype=torch.int64)},
        {"boxes": torch.tensor([[30.0, 8, 52, 31]]).double(), "labels": torch.tensor([1])},
    ]
    theirs.train()
    ours.backbone.eval()
    expected = theirs(single, targets)
    found = ours.losses(batch, sizes, targets)
    assert found["classification"].item() == pytest.approx(expected["classification"].item(), rel=1e-9)
    assert found["box"].item() == pytest.approx(expected["bbox_regression"].item(), rel=1e-9)
    with torch.no_grad():
        expected = theirs.eval()(list(batch[:2]))  # in evaluation theirs would resize the third
    detected = ours.eval().detect(batch[:2], sizes[:2])
    assert sum(len(one["boxes"]) for one in detected) > 20
    for own, other in zip(detected, expected, strict=True):
        assert torch.equal(own["labels"], other["labels"])
        torch.testing.assert_close(own["scores"], other["scores"])
        torch.testing.assert_close(own["boxes"], other["boxes"])


def older(state):
    """A state dict under the names that torchvision's published files have."""
    names = {
        r"\.(inner_blocks|layer_blocks)\.(\d)\.0\.": r".\1.\2.",
        r"rpn\.head\.conv\.0\.0\.": "rpn.head.conv.",
        r"_head\.conv\.0\.0\.": "_head.conv.0.",
        r"_head\.conv\.1\.0\.": "_head.conv.2.",
        r"_head\.conv\.2\.0\.": "_head.conv.4.",
        r"_head\.conv\.3\.0\.": "_head.conv.6.",
    }
    renamed = {}
    for key, value in state.items():
        for current, before in names.items():
            key = re.sub(current, before, key)  # noqa: PLW2901
        renamed[key] = value
    return renamed


@torch.no_grad()
def test_published_files_have_older_names_and_normalise_without_epsilon():
    """As torchvision loads them: layers of frozen statistics whose epsilon is 0."""
    torch.manual_seed(0)
    trunk = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=FrozenBatchNorm2d, returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )  # fmt: skip
    theirs = torchvision.models.detection.RetinaNet(trunk, 6, **OWN).eval()
    for module in theirs.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0
            module.running_var.uniform_(1e-5, 3e-5)  # where an epsilon of 1e-5 is a difference
            module.weight.fill_(4e-3)
    ours = retinanet.build(6, backbone="resnet18").eval()
    state = older(theirs.state_dict())
    assert state.keys() != theirs.state_dict().keys()
    assert not any("num_batches" in name for name in state)
    retinanet.load_official(ours, state)
    expected = theirs.head(list(theirs.backbone(images()).values()))["bbox_regression"]
    torch.testing.assert_close(ours(images())[1], expected, rtol=1e-4, atol=1e-5)
    del state["backbone.fpn.inner_blocks.0.bias"]
    with pytest.raises(UserError, match=r"1 missing: backbone.fpn.inner_blocks.0.0.bias"):
        retinanet.load_official(ours, state)


def test_older_names_of_two_stages():
    with torch.device("meta"):
        layout = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    state = {
        name: torch.full(value.shape, 0.5, dtype=value.dtype) if value.is_floating_point() else torch.tensor(0)
        for name, value in layout.state_dict().items()
    }
    assert "rpn.head.conv.weight" in older(state)
    network = faster_rcnn.build(90)
    faster_rcnn.load_official(network, older(state))
    assert network.backbone.fpn.inner_blocks[2][0].weight.unique().tolist() == [0.5]
    assert network.rpn.head.conv[0][0].bias.unique().tolist() == [0.5]
    assert network.backbone.body.bn1.running_var[0].item() == pytest.approx(0.5 - 1e-5)


def test_published_counts():
    with torch.device("meta"):
        network = timm.create_model("retinanet_r50_fpn", num_classes=91)
    frozen = sum(p.numel() for m in network.modules() if isinstance(m, BatchNorm2d) for p in m.parameters())
    assert sum(p.numel() for p in network.parameters()) - frozen == 34_014_999  # torchvision's


# losses written out

MATCHES = torch.tensor([[0, NOTHING, IGNORED, NOTHING, 1, NOTHING], [NOTHING, IGNORED, NOTHING, 0, NOTHING, NOTHING]])
LABELS = torch.tensor([2, 0, 1])  # of the three anchors of objects


def logits_of(seed=0):
    return torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(logits, kind, alpha, gamma, negatives):
    """Anchor by anchor in Python's floats; the sum of each image's losses."""
    row, totals = 0, []
    for image, matches in zip(logits.tolist(), MATCHES.tolist(), strict=True):
        empty, total = [], 0.0
        for scores, match in zip(image, matches, strict=True):
            label = int(LABELS[row]) if match >= 0 else None
            row += match >= 0
            loss = 0.0
            for k, score in enumerate(scores):
                right = 1 / (1 + math.exp(-score if k == label else score))
                weight = 1.0 if alpha is None else alpha if k == label else 1 - alpha
                loss -= weight * (1 - right) ** gamma * math.log(right)
            if match >= 0:
                total += loss
            elif match == NOTHING:
                empty.append(loss)
        count = sum(match >= 0 for match in matches)
        kept = sorted(empty, reverse=True)[: int(negatives * count)] if kind == "mined" else empty
        totals.append(total + sum(kept))
    return totals


@pytest.mark.parametrize(
    ("kind", "alpha", "gamma", "negatives", "expected"),
    [
        ("focal", None, 2.0, 3, (0.25, 2.0)),
        ("focal", 0.6, 0.5, 3, (0.6, 0.5)),
        ("cross_entropy", None, 2.0, 3, (None, 0)),
        ("cross_entropy", 0.75, 2.0, 3, (0.75, 0)),
        ("mined", None, 2.0, 1, (None, 0)),
        ("mined", None, 2.0, 99, (None, 0)),
    ],
)
def test_classification_losses_against_a_loop(kind, alpha, gamma, negatives, expected):
    logits = logits_of()
    found = classification_losses(logits, MATCHES, LABELS, kind, alpha, gamma, negatives)
    assert found.sum(1).tolist() == pytest.approx(naive(logits, kind, *expected, negatives), rel=1e-9)
    assert not found[MATCHES == IGNORED].any()
    per_image, of_batch = (over_positives(found, MATCHES, kind).item() for kind in ("image", "batch"))
    totals = found.sum(1).tolist()
    assert per_image == pytest.approx((totals[0] / 2 + totals[1] / 1) / 2)
    assert of_batch == pytest.approx(sum(totals) / 3)


def test_ignored_anchors_are_not_mined_however_hard():
    logits = logits_of()
    logits[MATCHES == IGNORED] = 30.0
    found = classification_losses(logits, MATCHES, LABELS, "mined", negatives=1)
    assert not found[MATCHES == IGNORED].any()
    assert (found > 0).sum(1).tolist() == [4, 2]


def test_box_losses_are_of_objects_anchors_alone():
    deltas = torch.arange(48.0).view(2, 6, 4)
    codes = torch.tensor([[0.0, 0, 0, 0], [16, 17, 18, 20], [36, 37, 38, 39]])
    found = box_losses(deltas, MATCHES, codes)
    assert found.tolist() == [[6, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0]]


def test_wrong_kinds_are_named():
    with pytest.raises(ValueError, match="kind=ohem: must be one of focal, cross_entropy, mined"):
        classification_losses(logits_of(), MATCHES, LABELS, "ohem")
    with pytest.raises(ValueError, match="normalizer=all: must be one of image, batch"):
        over_positives(torch.zeros(2, 6), MATCHES, "all")


def tiny(**options):
    torch.manual_seed(0)
    return timm.create_model("retinanet_tiny", num_classes=3, channels=8, **options).double().eval()


def test_it_starts_at_the_prior():
    """So that the loss of a first step is not that of all anchors taken for objects (Sec. 4.1)."""
    network = tiny(prior=0.02)
    bias = network.head.classification_head.cls_logits.bias
    assert bias.sigmoid().tolist() == pytest.approx([0.02] * 27)
    scores = network(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double())[0].sigmoid()
    assert scores.mean().item() == pytest.approx(0.02, rel=0.1)


def test_levels_anchors_and_where_p6_comes_from():
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)).double()
    network = tiny()
    _, anchors, counts = network._outputs(image, [(64, 96)])
    assert counts == [9 * places for places in (8 * 12, 4 * 6, 2 * 3, 1 * 2, 1 * 1)]
    assert network.backbone.levels == [8, 16, 32, 64, 128]
    first = anchors[:9]
    areas = ((first[:, 2] - first[:, 0]) * (first[:, 3] - first[:, 1])).sqrt()
    assert areas.tolist() == pytest.approx([16, 20, 25] * 3, abs=1)  # rounded to whole pixels
    other = tiny(p6="c5")
    assert other.backbone.fpn.extra_blocks.p6.in_channels == 96  # of the trunk's last map
    assert network.backbone.fpn.extra_blocks.p6.in_channels == 8


def test_a_batch_without_objects_trains_the_classes_alone():
    network = tiny().train()
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = network.losses(torch.randn(2, 3, 64, 64).double(), [(64, 64)] * 2, [empty, empty])
    assert losses["box"].item() == 0
    assert losses["classification"].item() > 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
