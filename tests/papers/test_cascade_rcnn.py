"""Cascade Mask R-CNN: matching of its stages, refinement, the official layout. Its losses: see ``test_htc``."""

import json
from pathlib import Path

import detectors
import pytest
import torch
from detectors import CLASSES, SIZES, small

from paperzoo.detection.boxes import clip, decode
from paperzoo.detection.sampling import Stage
from paperzoo.errors import UserError
from paperzoo.papers import cascade_rcnn
from paperzoo.papers.cascade_rcnn import network as networks


def test_settings_are_mmdetections():
    network = cascade_rcnn.build(CLASSES, **detectors.SMALL)
    rpn = network.rpn_head.settings
    assert (rpn.border, rpn.beta, rpn.before_nms, rpn.after_nms) == (0, 1 / 9, (1000, 2000), (1000, 2000))
    assert network.box_beta == 1
    assert network.box_heads[2].deltas.out_features == 4
    assert network.stages == (
        Stage(0.5, (0.1, 0.1, 0.2, 0.2), 1.0, False, 512, 0.25),
        Stage(0.6, (0.05, 0.05, 0.1, 0.1), 0.5, False, 512, 0.25),
        Stage(0.7, (0.033, 0.033, 0.067, 0.067), 0.25, False, 512, 0.25),
    )


@torch.no_grad()
def test_each_stage_is_trained_on_the_boxes_of_the_one_before():
    """Two stages' losses are one stage's each, the second on refined boxes without the objects' own."""
    network, images, targets = small("cascade_rcnn"), detectors.images(), detectors.targets()
    proposals = detectors.around(targets)
    found = network.losses(images, SIZES, targets, proposals, "first")
    features = network.features(images)
    regions = network._sample(0, proposals, targets, "first")
    boxes = [region.boxes for region in regions]
    assert all(torch.equal(own[: len(t["boxes"])], t["boxes"]) for own, t in zip(boxes, targets, strict=True))
    refined = network.refine(0, boxes, *network.box_stage(0, features, boxes), SIZES)
    given = [own[len(target["boxes"]) :] for own, target in zip(refined, targets, strict=True)]
    again = network._box_losses(1, features, network._sample(1, given, targets, "first"), targets)[0]
    assert {name: found[name].item() for name in again} == pytest.approx({n: v.item() for n, v in again.items()})


@torch.no_grad()
def test_boxes_of_objects_are_refined_by_their_own_class():
    """Where each class has deltas of its own; those of the background by the likeliest one's."""
    network, images, targets = small("cascade_rcnn", agnostic=False), detectors.images(), detectors.targets()
    regions = network._sample(0, detectors.around(targets), targets, "first")
    boxes = [region.boxes for region in regions]
    logits, deltas = network.box_stage(0, network.features(images), boxes)
    found = network._refined(0, regions, logits, deltas, SIZES, targets)
    row, differ = 0, 0
    for region, target, size, moved in zip(regions, targets, SIZES, found, strict=True):
        expected = []
        for i, box in enumerate(region.boxes):
            likeliest = logits[row, : detectors.CLASSES].argmax().item()
            label = target["labels"][region.truth[i]].item() if i < len(region.truth) else likeliest
            differ += label != likeliest
            if i >= len(region.truth) or not region.added[i]:
                own = decode(box[None], deltas[row, 4 * label : 4 * label + 4][None], network.stages[0].stds)
                expected.append(clip(own, size))
            row += 1
        torch.testing.assert_close(moved, torch.cat(expected))
    assert differ


def test_a_better_overlap_is_asked_for_at_each_stage():
    network, targets = small("cascade_rcnn"), detectors.targets()
    own = targets[1]["boxes"][0]
    shifted = [own + torch.tensor([s, 0, s, 0.0], dtype=torch.float64) for s in (6, 11, 13, 20)]
    proposals = [torch.zeros(0, 4, dtype=torch.float64), torch.stack(shifted)]
    # width 40: IoU (40 - s) / (40 + s) = .74, .57, .51, .33
    counts = [len(network._sample(stage, proposals, targets, "first")[1].truth) - 1 for stage in range(3)]
    assert counts == [3, 1, 1]


def test_gradients_do_not_pass_through_boxes_or_masks_of_other_stages():
    network = small("cascade_rcnn")
    losses = network.losses(detectors.images(), SIZES, detectors.targets())
    for stage in range(3):
        for kind, kinds in (("box_heads", ("classification", "box")), ("mask_heads", ("mask",))):
            parameters = list(getattr(network, kind)[stage].parameters())
            for name, loss in losses.items():
                found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
                reached = any(g is not None and g.abs().sum() > 0 for g in found)
                assert reached == (name in {f"stage{stage}_{k}" for k in kinds}), (name, kind, stage)


@torch.no_grad()
def test_masks_are_means_of_probabilities():
    network, images = small("cascade_rcnn"), detectors.images()
    found = network.detect(images, SIZES, max_detections=5)
    boxes, labels = [one["boxes"] for one in found], torch.cat([one["labels"] for one in found])
    features = network.features(images)
    stages = [network.mask_stage(s, features, boxes)[torch.arange(10), labels].sigmoid() for s in range(3)]
    torch.testing.assert_close(torch.cat([one["masks"] for one in found]), sum(stages) / 3)
    last = network.detect(images, SIZES, max_detections=5, mask_stages="last")
    torch.testing.assert_close(torch.cat([one["masks"] for one in last]), stages[2])


LAYOUT = Path(__file__).parent / "official" / "cascade_mask_rcnn_r50_fpn_1x.json"


def test_official_layout():
    layout = json.loads(LAYOUT.read_text())["keys"]
    torch.manual_seed(0)
    state = {name: torch.randn(shape) * 0.01 if shape else torch.tensor(1) for name, shape in layout.items()}
    network = cascade_rcnn.build()
    cascade_rcnn.load_official(network, state)
    assert len(state) == len(network.state_dict())
    for stage in range(3):
        place = f"roi_head.bbox_head.{stage}."
        assert torch.equal(network.box_heads[stage].classes.weight, state[place + "fc_cls.weight"])
        assert torch.equal(network.box_heads[stage].fc1.bias, state[place + "shared_fcs.0.bias"])
        place = f"roi_head.mask_head.{stage}."
        assert torch.equal(network.mask_heads[stage].logits.weight, state[place + "conv_logits.weight"])
    assert torch.equal(network.rpn_head.deltas.bias, state["rpn_head.rpn_reg.bias"])
    before = network.rpn_head.deltas.bias.clone()
    state["rpn_head.rpn_reg.bias"] = torch.zeros(11)
    with pytest.raises(UserError, match=r"1 of another shape: rpn_head.rpn_reg.bias is 11, the network has 12"):
        cascade_rcnn.load_official(network, state)
    assert torch.equal(network.rpn_head.deltas.bias, before)
    assert networks.STAGES[2].overlap == 0.7
