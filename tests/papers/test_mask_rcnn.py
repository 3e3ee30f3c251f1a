"""Mask R-CNN: its stage written out, its evaluation against torchvision's, the official layout."""

import json
from pathlib import Path

import detectors
import naive_boxes as naive
import pytest
import torch
from detectors import CLASSES, SIZES, small
from torchvision.models.detection.roi_heads import maskrcnn_loss
from torchvision.models.detection.rpn import concat_box_prediction_layers

from paperzoo.detection.losses import mask_loss
from paperzoo.detection.masks import mask_targets
from paperzoo.detection.rpn import flattened
from paperzoo.detection.sampling import Stage
from paperzoo.errors import UserError
from paperzoo.papers import mask_rcnn

STDS = (0.1, 0.1, 0.2, 0.2)


@torch.no_grad()
def test_losses_equal_those_written_out():
    """L1 on the deltas of the object's own class; all boxes of a batch in one denominator."""
    network = small("mask_rcnn", stages=(Stage(size=24),))
    images, targets = detectors.images(), detectors.targets()
    proposals = detectors.around(targets, 12)
    features = network.features(images)
    sampled, rows = [], []
    for own, target in zip(proposals, targets, strict=True):
        truth, boxes = target["boxes"].tolist(), own.tolist()
        matches = list(range(len(truth))) + naive.match(truth, boxes, 0.5, 0.5, 0.5, True)
        positive, negative = naive.first(matches, 24, 0.25)
        every = truth + boxes
        sampled.append(torch.tensor([every[i] for i in positive + negative], dtype=torch.float64))
        rows += [(every[i], target, matches[i]) for i in positive] + [(every[i], target, None) for i in negative]
    logits, deltas = network.box_stage(0, features, sampled)
    assert deltas.shape == (len(rows), 4 * CLASSES)
    classification = moved = 0.0
    for logit, delta, (box, target, which) in zip(logits, deltas, rows, strict=True):
        label = CLASSES if which is None else int(target["labels"][which])
        classification += naive.cross_entropy(logit, label)
        if which is not None:
            code = naive.encode(box, target["boxes"][which].tolist(), STDS)
            moved += sum(abs(float(delta[4 * label + i]) - code[i]) for i in range(4))
    found = network.losses(images, SIZES, targets, proposals, sampling="first")
    assert found["stage0_classification"].item() == pytest.approx(classification / len(rows), rel=1e-6)
    assert found["stage0_box"].item() == pytest.approx(moved / len(rows), rel=1e-6)
    assert set(found) == {"stage0_classification", "stage0_box", "stage0_mask"}


def test_the_mask_loss_is_torchvisions_on_the_same_targets():
    """On boxes on whole pixels, as large as the mask head's output, whose masks are the image's pixels."""
    network = small("mask_rcnn")
    features = network.features(detectors.images())
    boxes = [torch.tensor([[4.0, 6, 32, 34]]).double(), torch.tensor([[10.0, 3, 38, 31], [0, 8, 28, 36]]).double()]
    logits = network.mask_stage(0, features, boxes)
    masks = [torch.rand(2, *size, generator=torch.Generator().manual_seed(i)) > 0.5 for i, size in enumerate(SIZES)]
    labels, which = [torch.tensor([3]), torch.tensor([0, 4])], [torch.tensor([1]), torch.tensor([1, 0])]
    whole = [mask_targets(m, b, w, 28) for m, b, w in zip(masks, boxes, which, strict=True)]
    for image, (m, b, w) in enumerate(zip(masks, boxes, which, strict=True)):
        for row, (x1, y1, x2, y2) in enumerate(b.long().tolist()):
            assert torch.equal(whole[image][row].bool(), m[w[row], y1:y2, x1:x2])
    # without the half pixel taken off, this box reads just the cells of a mask of 28 x 28
    exact = [torch.tensor([[-0.5, -0.5, 27.5, 27.5]]).double().repeat(len(b), 1) for b in boxes]
    theirs = maskrcnn_loss(logits, exact, whole, labels, [torch.arange(len(b)) for b in boxes])
    ours = mask_loss(logits, torch.cat(labels), torch.cat(whole))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9)


def test_maps_are_flattened_as_torchvisions():
    network = small("mask_rcnn")
    scores, deltas = network.rpn(network.features(detectors.images()))
    logits, moves = concat_box_prediction_layers(list(scores), list(deltas))
    torch.testing.assert_close(torch.cat([flattened(x, 1) for x in scores], dim=1).flatten(0, 1), logits)
    torch.testing.assert_close(torch.cat([flattened(x, 4) for x in deltas], dim=1).flatten(0, 1), moves)


def test_pyramid_by_hand():
    network = small("mask_rcnn")
    maps = network.backbone(detectors.images())
    levels = network.pyramid(maps)
    pyramid = network.pyramid
    top = pyramid.laterals[3](maps[3])
    below = pyramid.laterals[2](maps[2]) + top.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(levels[2], pyramid.outputs[2](below))
    torch.testing.assert_close(levels[3], pyramid.outputs[3](top))
    assert torch.equal(levels[4], levels[3][:, :, ::2, ::2])
    assert network.strides == [4, 8, 16, 32, 64]


@torch.no_grad()
def test_detections_move_boxes_by_their_own_class():
    network, images = small("mask_rcnn"), detectors.images()
    proposals = detectors.around(detectors.targets(), 6)
    features = network.features(images)
    logits, deltas = network.box_stage(0, features, proposals)
    scores = logits.softmax(-1)
    found = network.detect(images, SIZES, proposals, score_threshold=0.15, nms_threshold=0.4, max_detections=9)
    row = 0
    for image, own in enumerate(proposals):
        kept = []
        for k in range(CLASSES):
            rows = [i for i in range(len(own)) if scores[row + i, k] > 0.15]
            moved = [
                naive.decode(own[i].tolist(), deltas[row + i, 4 * k : 4 * k + 4], STDS, SIZES[image]) for i in rows
            ]
            values = [float(scores[row + i, k]) for i in rows]
            kept += [(values[i], k, moved[i]) for i in naive.nms(moved, values, 0.4)]
        kept = sorted(kept, key=lambda one: -one[0])[:9]
        row += len(own)
        assert len(kept) == 9
        assert found[image]["labels"].tolist() == [k for _, k, _ in kept]
        assert found[image]["scores"].tolist() == pytest.approx([score for score, *_ in kept])
        torch.testing.assert_close(found[image]["boxes"], torch.tensor([box for *_, box in kept], dtype=torch.float64))
    labels = torch.cat([one["labels"] for one in found])
    masks = network.mask_stage(0, features, [one["boxes"] for one in found])[torch.arange(len(labels)), labels]
    torch.testing.assert_close(torch.cat([one["masks"] for one in found]), masks.sigmoid())
    first = logits[:, :-1].argmax(1)
    refined = torch.cat(network.refine(0, proposals, logits, deltas, SIZES))
    sizes = [SIZES[0]] * len(proposals[0]) + [SIZES[1]] * len(proposals[1])
    for box, delta, k, size, moved in zip(torch.cat(proposals), deltas, first, sizes, refined, strict=True):
        assert moved.tolist() == pytest.approx(naive.decode(box.tolist(), delta[4 * k : 4 * k + 4], STDS, size))


def test_settings_are_mmdetections():
    network = mask_rcnn.build(CLASSES, **detectors.SMALL)
    rpn = network.rpn_head.settings
    assert (rpn.border, rpn.beta, rpn.before_nms, rpn.after_nms) == (-1, 0, (1000, 2000), (1000, 1000))
    assert (rpn.positive, rpn.negative, rpn.minimum, rpn.size, rpn.positives, rpn.nms) == (0.7, 0.3, 0.3, 256, 0.5, 0.7)
    assert network.stages == (Stage(0.5, STDS, 1.0, True, 512, 0.25),)
    assert network.box_beta == 0


@pytest.mark.parametrize("which", ["one", "none"])
def test_images_with_few_objects_train(which):
    network, targets = small("mask_rcnn"), detectors.targets()
    targets = [detectors.target([], SIZES[0]), targets[1] if which == "one" else detectors.target([], SIZES[1])]
    losses = network.losses(detectors.images(), SIZES, targets)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)
    assert (losses["stage0_mask"].item() > 0) == (which == "one")


LAYOUT = Path(__file__).parent / "official" / "mask_rcnn_r50_fpn_1x_mmdet.json"


def test_official_layout():
    layout = json.loads(LAYOUT.read_text())["keys"]
    torch.manual_seed(0)
    state = {name: torch.randn(shape) * 0.01 if shape else torch.tensor(1) for name, shape in layout.items()}
    network = mask_rcnn.build()
    mask_rcnn.load_official(network, {"state_dict": state})
    assert len(state) == len(network.state_dict())
    assert torch.equal(network.box_heads[0].deltas.weight, state["roi_head.bbox_head.fc_reg.weight"])
    assert torch.equal(network.box_heads[0].fc2.weight, state["roi_head.bbox_head.shared_fcs.1.weight"])
    assert torch.equal(network.mask_heads[0].convs[2].weight, state["roi_head.mask_head.convs.2.conv.weight"])
    assert torch.equal(network.backbone.body.layer3[5].bn2.bias, state["backbone.layer3.5.bn2.bias"])
    assert torch.equal(network.pyramid.laterals[3].weight, state["neck.lateral_convs.3.conv.weight"])
    del state["roi_head.mask_head.upsample.bias"]
    with pytest.raises(UserError, match=r"1 missing: roi_head.mask_head.upsample.bias"):
        mask_rcnn.load_official(network, state)
