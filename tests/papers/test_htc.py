"""Hybrid Task Cascade: its losses and detections written out, its flags, its gradients, the official layout."""

import itertools
import json
import math
from importlib import import_module
from pathlib import Path

import detectors
import naive_boxes as naive
import numpy as np
import pytest
import torch
from detectors import CLASSES, SIZES, small
from torch.nn.functional import adaptive_avg_pool2d

from paperzoo.detection.sampling import Stage
from paperzoo.errors import UserError
from paperzoo.papers import htc
from paperzoo.papers.htc import network as networks
from paperzoo.papers.htc.mask_flow import FlowMaskHead
from paperzoo.papers.htc.semantic_head import SemanticHead, semantic_loss

FLAGS = ("interleaved", "mask_info_flow", "semantic_fusion")
SETTINGS = [  # IoU, stds, weight, as the paper has them
    (0.5, (0.1, 0.1, 0.2, 0.2), 1.0),
    (0.6, (0.05, 0.05, 0.1, 0.1), 0.5),
    (0.7, (0.033, 0.033, 0.067, 0.067), 0.25),
]


@pytest.fixture(autouse=True)
def _few_regions(monkeypatch):
    """24 regions an image, so that sampling leaves some out."""
    few = tuple(stage._replace(size=24) for stage in networks.STAGES)
    assert [(s.overlap, s.stds, s.weight) for s in few] == SETTINGS
    assert all(s.low_quality for s in few)
    assert networks.STAGES[0][-2:] == (512, 0.25)
    monkeypatch.setattr(networks, "STAGES", few)


def pooled(network, features, box, image, size, embedding):
    """Features of one region (C, size, size), read by a loop."""
    level = naive.level(box, 4)
    own = features[level][image].detach().numpy()
    found = np.stack([naive.roi_align(channel, box, size, 1 / (4 << level)) for channel in own])
    if embedding is not None:
        extra = np.stack([naive.roi_align(channel, box, 14, 1 / 8) for channel in embedding[image].detach().numpy()])
        if size == 7:
            extra = extra.reshape(-1, 7, 2, 7, 2).mean(axis=(2, 4))
        found = found + extra
    return torch.from_numpy(found)


def naive_losses(network, images, targets, proposals):
    """The training of section 3 as ``docs/facts.md`` has it, region by region; the heads' layers are the network's."""
    features = network.features(images)
    embedding = network.semantic(features)[1] if network.semantic_fusion else None
    losses = {}
    boxes = [part.tolist() for part in proposals]

    def sample(stage):
        """Of each image: boxes, objects' indices (None: background), whether added."""
        found = []
        for own, target in zip(boxes, targets, strict=True):
            truth = target["boxes"].tolist()
            overlap = SETTINGS[stage][0]
            matches = list(range(len(truth))) + naive.match(truth, own, overlap, overlap, overlap, True)
            every = truth + own
            positive, negative = naive.first(matches, 24, 0.25)
            rows = [(every[i], matches[i], i < len(truth)) for i in positive]
            found.append(rows + [(every[i], None, False) for i in negative])
        return found

    for stage, (_, stds, weight) in enumerate(SETTINGS):
        sampled = sample(stage)
        count = sum(len(rows) for rows in sampled)
        classification = box_loss = 0.0
        moved = []
        for image, (rows, target) in enumerate(zip(sampled, targets, strict=True)):
            moved.append([])
            for box, which, added in rows:
                x = pooled(network, features, box, image, 7, embedding)
                logits, delta = (part[0].tolist() for part in network.box_heads[stage](x[None]))
                label = CLASSES if which is None else int(target["labels"][which])
                classification += naive.cross_entropy(logits, label)
                if which is not None:
                    code = naive.encode(box, target["boxes"][which].tolist(), stds)
                    box_loss += sum(naive.smooth_l1(d - c, 1.0) for d, c in zip(delta, code, strict=True))
                if not added:
                    moved[-1].append(naive.decode(box, delta, stds, SIZES[image]))
        losses[f"stage{stage}_classification"] = weight * classification / count
        losses[f"stage{stage}_box"] = weight * box_loss / count
        boxes = moved
        if network.interleaved:
            sampled = sample(stage)
        cells = []
        for image, (rows, target) in enumerate(zip(sampled, targets, strict=True)):
            for box, which, _ in rows:
                if which is None:
                    continue
                x = pooled(network, features, box, image, 14, embedding)[None]
                before = None
                for head in network.mask_heads[: stage + 1]:
                    given = x
                    if before is not None and network.mask_info_flow:
                        given = x + torch.relu(head.flow(before))
                    for conv in head.convs:
                        given = torch.relu(conv(given))
                    before = given
                last = network.mask_heads[stage]
                logits = last.logits(torch.relu(last.upsample(before)))[0, int(target["labels"][which])]
                height, width = target["masks"].shape[1:]
                inside = [min(max(v, 0), (width, height)[i % 2]) for i, v in enumerate(box)]
                wanted = naive.roi_align(target["masks"][which].double().numpy(), inside, 28, 1.0) >= 0.5
                cells += [
                    naive.binary_cross_entropy(logits[y, x], float(wanted[y, x])) for y in range(28) for x in range(28)
                ]
        losses[f"stage{stage}_mask"] = weight * sum(cells) / len(cells)
    return losses


@pytest.mark.parametrize("flags", [{}, {"interleaved": False}, {"mask_info_flow": False}, {"semantic_fusion": False}])
@torch.no_grad()
def test_losses_equal_those_written_out(flags):
    network, images, targets = small("htc", **flags), detectors.images(), detectors.targets()
    proposals = detectors.around(targets, 12)
    found = network.losses(images, SIZES, targets, proposals, sampling="first")
    semantic = found.pop("semantic", None)
    assert (semantic is None) == (not network.semantic_fusion)
    expected = naive_losses(network, images, targets, proposals)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=1e-6)


def test_semantic_loss_by_hand():
    logits = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    logits[0, 1, 0, 0] = math.log(3)
    labels = torch.full((9, 16), 255)
    labels[0, 0], labels[8, 0], labels[3, 3] = 1, 0, 0  # only every eighth row and column is read
    expected = (math.log(4 / 3) + math.log(2)) / 4  # two of four pixels have labels
    assert semantic_loss(logits, [labels], 8).item() == pytest.approx(expected)


def test_semantic_head_resizes_before_its_laterals():
    """Each level by a loop: bilinear with corners on corners, then 1x1 and ReLU."""
    torch.manual_seed(0)
    head = SemanticHead(3, 2, 4).double()
    levels = [torch.randn(1, 2, n, n, dtype=torch.float64) for n in (8, 4, 2)]
    fused = torch.zeros(2, 4, 4, dtype=torch.float64)
    for lateral, level in zip(head.laterals, levels, strict=True):
        side = level.shape[-1]
        for y in range(4):
            for x in range(4):
                py, px = y * (side - 1) / 3, x * (side - 1) / 3
                cell = torch.tensor([naive.bilinear(level[0, c].numpy(), py, px) for c in range(2)])
                fused[:, y, x] += torch.relu(lateral.weight[:, :, 0, 0] @ cell + lateral.bias).detach()
    x = fused[None]
    for conv in head.convs:
        x = torch.relu(conv(x))
    logits, embedding = head(levels)
    torch.testing.assert_close(logits, head.logits(x))
    torch.testing.assert_close(embedding, torch.relu(head.embedding(x)))


def same_weights(network, other):
    """Give ``other`` the weights of ``network`` that it has, all of them."""
    state = network.state_dict()
    other.load_state_dict({name: state[name] for name in other.state_dict()})
    return other


OFF = dict.fromkeys(FLAGS, False)


def test_without_flags_it_is_cascade_mask_rcnn():
    """With the stages' matching of HTC, which also gives an object the regions that overlap it most."""
    network = small("htc", **OFF)
    other = same_weights(network, small("cascade_rcnn", seed=1, stages=networks.STAGES))
    _assert_equal(network, other)


def test_of_one_stage_without_flags_it_is_mask_rcnn():
    """With a class-agnostic box head, smooth L1 loss and HTC's settings of proposals."""
    network = small("htc", stages=1, **OFF)
    options = {"stages": networks.STAGES[:1], "agnostic": True, "box_beta": 1.0}
    other = same_weights(network, small("mask_rcnn", seed=1, **options))
    _assert_equal(network, other)


def _assert_equal(network, other):
    images, targets = detectors.images(), detectors.targets()
    found, expected = [], []
    for one, results in ((network, found), (other, expected)):
        torch.manual_seed(5)
        losses = one.losses(images, SIZES, targets)
        sum(losses.values()).backward()
        results += [losses, {n: p.grad for n, p in one.named_parameters() if ".flow." not in n}]
        results.append(one.detect(images, SIZES))
    torch.testing.assert_close(found, expected)
    assert all(float(value) > 0 for value in found[0].values())
    assert all(len(one["boxes"]) for one in found[2])


@torch.no_grad()
def test_detections_equal_those_written_out():
    """Means of logits over refined boxes, boxes of the last stage, means of the masks' probabilities."""
    network, images = small("htc"), detectors.images()
    proposals = detectors.around(detectors.targets(), 8)
    features = network.features(images)
    _, embedding = network.semantic(features)
    boxes, every = proposals, []
    for stage in range(3):
        logits, deltas = network.box_stage(stage, features, boxes, embedding)
        every.append(logits)
        moved, row = [], 0
        for own, size in zip(boxes, SIZES, strict=True):
            rows = [naive.decode(b, deltas[row + i], SETTINGS[stage][1], size) for i, b in enumerate(own.tolist())]
            moved.append(torch.tensor(rows, dtype=torch.float64))
            row += len(own)
        refined = network.refine(stage, boxes, logits, deltas, SIZES)
        torch.testing.assert_close(refined, moved)
        boxes = moved
    scores = (sum(every) / 3).softmax(-1)
    found = network.detect(images, SIZES, proposals, score_threshold=0.1, nms_threshold=0.5, max_detections=12)
    row = 0
    for image, own in enumerate(boxes):
        kept = []
        for k in range(CLASSES):
            column = scores[row : row + len(own), k].tolist()
            rows = [i for i, score in enumerate(column) if score > 0.1]
            local = naive.nms(own[rows].tolist(), [column[i] for i in rows], 0.5)
            kept += [(column[rows[i]], k, rows[i]) for i in local]
        kept.sort(key=lambda one: -one[0])
        kept = kept[:12]
        row += len(own)
        assert found[image]["scores"].tolist() == pytest.approx([score for score, _, _ in kept])
        assert found[image]["labels"].tolist() == [k for _, k, _ in kept]
        torch.testing.assert_close(found[image]["boxes"], own[[i for *_, i in kept]])
    final = [one["boxes"] for one in found]
    labels = torch.cat([one["labels"] for one in found])
    rows = torch.arange(len(labels))
    stages = [network.mask_stage(s, features, final, embedding)[rows, labels].sigmoid() for s in range(3)]
    torch.testing.assert_close(torch.cat([one["masks"] for one in found]), sum(stages) / 3)
    last = network.detect(images, SIZES, proposals, 0.1, 0.5, 12, mask_stages="last")
    torch.testing.assert_close(torch.cat([one["masks"] for one in last]), stages[2])
    with pytest.raises(ValueError, match="mask_stages=first: must be one of mean, last"):
        network.detect(images, SIZES, proposals, mask_stages="first")


def test_the_embedding_is_pooled_to_the_box_branch_and_added():
    network, boxes = small("htc"), [torch.tensor([[4.0, 4, 60, 50]], dtype=torch.float64), torch.zeros(0, 4).double()]
    features = network.features(detectors.images())
    _, embedding = network.semantic(features)
    plain, added = (network.pool(features, boxes, 7, e) for e in (None, embedding))
    own = np.stack([naive.roi_align(c, boxes[0][0].tolist(), 14, 1 / 8) for c in embedding[0].detach().numpy()])
    torch.testing.assert_close(added - plain, adaptive_avg_pool2d(torch.from_numpy(own)[None], 7))


def gradients(network, names, **options):
    """Names of the losses (by prefix) whose gradient reaches each part."""
    losses = network.losses(detectors.images(), SIZES, detectors.targets(), sampling="first", **options)
    reached = {}
    for part in names:
        parameters = list(network.get_submodule(part).parameters())
        reached[part] = {
            name
            for name, loss in losses.items()
            if any(
                g is not None and g.abs().sum() > 0
                for g in torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            )
        }
    return reached


def test_no_gradient_through_boxes_but_through_mask_features():
    network = small("htc")
    parts = [f"{kind}.{stage}" for kind in ("box_heads", "mask_heads") for stage in range(3)]
    reached = gradients(network, [*parts, "semantic_head.embedding", "rpn_head"])
    for stage in range(3):
        assert reached[f"box_heads.{stage}"] == {f"stage{stage}_classification", f"stage{stage}_box"}
        assert reached[f"mask_heads.{stage}"] == {f"stage{later}_mask" for later in range(stage, 3)}
    every = {f"stage{stage}_{kind}" for stage in range(3) for kind in ("classification", "box", "mask")}
    assert reached["semantic_head.embedding"] == every
    assert reached["rpn_head"] == {"rpn_objectness", "rpn_box"}
    assert reached["box_heads.0"].isdisjoint({"stage0_mask"})  # interleaving hands over boxes, not gradients


def test_without_flow_its_convolutions_have_no_gradient():
    network = small("htc", mask_info_flow=False)
    losses = network.losses(detectors.images(), SIZES, detectors.targets(), sampling="first")
    sum(losses.values()).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None and "backbone" not in name]
    assert without == [f"mask_heads.{stage}.flow.{kind}" for stage in (1, 2) for kind in ("weight", "bias")]
    assert not hasattr(network.mask_heads[0], "flow")
    losses = network.losses(detectors.images(), SIZES, detectors.targets(), sampling="first")
    weight = network.mask_heads[0].convs[0].weight
    reached = [
        torch.autograd.grad(losses[f"stage{s}_mask"], weight, allow_unused=True, retain_graph=True) for s in range(3)
    ]
    assert [gradient is not None for (gradient,) in reached] == [True, False, False]


def test_flow_is_rectified_and_added():
    torch.manual_seed(0)
    head = FlowMaskHead(3, 3, 2, receives=True).double()
    x, before = torch.randn(2, 1, 3, 14, 14, dtype=torch.float64)
    expected = x + torch.einsum("oc,nchw->nohw", head.flow.weight[:, :, 0, 0], before).clamp(min=0)
    torch.testing.assert_close(head.trunk(x, before), head.trunk(expected))


def empty(size):
    return detectors.target([], size)


@pytest.mark.parametrize("which", ["nothing", "one image without", "no proposals", "one pixel high", "five hundred"])
def test_unusual_images(which):
    network, images, targets = small("htc"), detectors.images(), detectors.targets()
    options = {}
    if which == "nothing":
        targets = [empty(size) for size in SIZES]
    elif which == "one image without":
        targets[0] = empty(SIZES[0])
    elif which == "no proposals":
        options = {"proposals": [torch.zeros(0, 4, dtype=torch.float64)] * 2}
    elif which == "one pixel high":
        targets[1] = detectors.target([[5, 7, 45, 8], [60, 10, 61, 11]], SIZES[1])
        targets[1]["masks"][0, 7, 5:45] = True
    else:
        x, y = torch.meshgrid(torch.arange(25.0) * 3, torch.arange(20.0) * 3, indexing="ij")
        corner = torch.stack([x, y], dim=-1).reshape(-1, 2)
        targets[0] = detectors.target(torch.cat([corner, corner + 3], dim=1).tolist(), SIZES[0])
    losses = network.losses(images, SIZES, targets, **options)
    total = sum(losses.values())
    total.backward()
    assert math.isfinite(total.item())
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and not (options and name.startswith("rpn_head")):
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    if which == "nothing":
        assert all(loss.item() == 0 for name, loss in losses.items() if name.endswith(("_box", "_mask")))
    found = network.detect(images, SIZES, options.get("proposals"))
    assert all(one["masks"].shape == (len(one["boxes"]), 28, 28) for one in found)
    assert all(len(one["boxes"]) == 0 for one in found) == (which == "no proposals")


def test_frozen_parts_and_running_statistics():
    network = htc.build(CLASSES, **detectors.SMALL).train()
    body = network.backbone.body
    assert not any(p.requires_grad for part in (body.conv1, body.bn1, body.layer1) for p in part.parameters())
    assert all(p.requires_grad for part in (body.layer2, body.layer3, body.layer4) for p in part.parameters())
    before = {name: value.clone() for name, value in network.named_buffers()}
    network.features(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    free = htc.build(CLASSES, **detectors.SMALL, frozen_stages=0, norm_eval=False).train()
    mean = free.backbone.body.bn1.running_mean.clone()
    free.features(torch.randn(2, 3, 64, 64))
    assert not torch.equal(free.backbone.body.bn1.running_mean, mean)
    assert all(p.requires_grad for p in free.parameters())


@torch.no_grad()
def test_a_trunk_of_other_strides():
    """SqueezeNet's second map is of stride 4: labels, and the embedding's places, are where they are in the image."""
    import_module("paperzoo.papers.squeezenet")
    network = small("htc", backbone="squeezenet1_1", frozen_stages=0)
    assert network.strides[1] == 4
    images, targets = detectors.images(), detectors.targets()
    features = network.features(images)
    logits, embedding = network.semantic(features)
    places = (torch.arange(logits.shape[3], dtype=torch.float64) + 0.5) * 4  # pixels from the left
    boxes = [torch.tensor([[16.0, 8, 44, 36]], dtype=torch.float64), torch.zeros(0, 4, dtype=torch.float64)]
    added = network.pool(features, boxes, 14, places.expand_as(embedding)) - network.pool(features, boxes, 14)
    assert added[0, 0].mean(dim=0).tolist() == pytest.approx([17 + 2 * i for i in range(14)])
    total, count = 0.0, 0
    for own, target in zip(logits, targets, strict=True):
        for y, x in itertools.product(*map(range, own.shape[1:])):
            inside = 4 * y < target["semantic"].shape[0] and 4 * x < target["semantic"].shape[1]
            label = target["semantic"][4 * y, 4 * x].item() if inside else 255
            total += (own[:, y, x].logsumexp(0) - own[label, y, x]).item() if label != 255 else 0
            count += 1
    found = network.losses(images, SIZES, targets, detectors.around(targets), "first")["semantic"]
    assert found.item() == pytest.approx(0.2 * total / count)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"stages": 4}, "model.stages=4: must be from 1 to 3"),
        ({"stages": 0}, "model.stages=0: must be from 1 to 3"),
        ({"backbone": "resnet51"}, "model.backbone=resnet51: is not in timm's registry"),
        (
            {"backbone": "swin_tiny_patch4_window7_224", "frozen_stages": 0},
            "model.backbone=swin_tiny_patch4_window7_224: its maps have their channels last",
        ),
        ({"frozen_stages": 5}, "model.frozen_stages=5: must be from 0 to 4"),
        ({"num_classes": 0}, "num_classes=0: must be at least 1"),
    ],
)
def test_mistakes_are_one_line(options, line):
    with pytest.raises(UserError, match=line):
        htc.build(**{**detectors.SMALL, **options})
    fixed = htc.build(**{**detectors.SMALL, "backbone": "vit_tiny_patch16_224", "frozen_stages": 0})
    with pytest.raises(UserError, match=r"model.backbone=vit_tiny_patch16_224: does not take images of 64x96"):
        fixed.features(torch.zeros(1, 3, 64, 96))
    with pytest.raises(ValueError, match="semantic_fusion=False: this network has no semantic branch"):
        small("htc", semantic_fusion=False).semantic([])


def test_stage_settings_have_the_papers_defaults():
    assert Stage() == (0.5, (0.1, 0.1, 0.2, 0.2), 1.0, True, 512, 0.25)


LAYOUT = Path(__file__).parent / "official" / "htc_r50_fpn_1x.json"


def test_official_layout():
    """Every key of mmdetection's, and each lands where the public methods use it."""
    layout = json.loads(LAYOUT.read_text())["keys"]
    network = htc.build()
    torch.manual_seed(0)
    state = {name: torch.randn(shape) * 0.01 if shape else torch.tensor(1) for name, shape in layout.items()}
    htc.load_official(network, state)
    assert len(state) == len(network.state_dict())
    head = "roi_head.mask_head.2."
    assert torch.equal(network.mask_heads[2].flow.weight, state[head + "conv_res.conv.weight"])
    assert torch.equal(network.mask_heads[2].convs[3].bias, state[head + "convs.3.conv.bias"])
    semantic = "roi_head.semantic_head."
    assert torch.equal(network.semantic_head.embedding.weight, state[semantic + "conv_embedding.conv.weight"])
    assert torch.equal(network.semantic_head.laterals[4].bias, state[semantic + "lateral_convs.4.conv.bias"])
    assert torch.equal(network.box_heads[1].fc2.weight, state["roi_head.bbox_head.1.shared_fcs.1.weight"])
    assert torch.equal(network.box_heads[1].deltas.bias, state["roi_head.bbox_head.1.fc_reg.bias"])
    assert torch.equal(network.rpn_head.objectness.weight, state["rpn_head.rpn_cls.weight"])
    fewer = htc.build(stages=2, semantic_fusion=False)
    htc.load_official(fewer, state)
    assert torch.equal(fewer.box_heads[1].fc1.weight, network.box_heads[1].fc1.weight)
    state["roi_head.bbox_head.0.fc_what.weight"] = torch.zeros(1)
    with pytest.raises(UserError, match=r"1 unexpected: roi_head.bbox_head.0.fc_what.weight"):
        htc.load_official(network, state)
