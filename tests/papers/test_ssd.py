"""SSD: with torchvision's weights it computes what torchvision's own computes; its loss written out."""

import math

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection import ssd as torchvision_ssd

from paperzoo.errors import UserError
from paperzoo.papers import ssd
from paperzoo.papers.ssd.features import ratios_to_square, warped
from paperzoo.papers.ssd.multibox_loss import multibox_loss

SIZES = [(300, 300), (300, 300)]


@pytest.fixture(scope="module")
def pair():
    """Theirs, and ours with its weights, whose scores are far from equal."""
    torch.manual_seed(0)
    theirs = torchvision.models.detection.ssd300_vgg16(
        weights=None, weights_backbone=None, num_classes=6, image_mean=[0.0, 0.0, 0.0], image_std=[1.0, 1.0, 1.0]
    )
    for layer in theirs.head.classification_head.module_list:
        torch.nn.init.normal_(layer.weight, std=0.05)
    ours = ssd.build(5)
    ssd.load_official(ours, theirs.state_dict())
    return theirs, ours


def images(count=2, size=(300, 300)):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.full
@torch.no_grad()
def test_outputs_anchors_and_detections_are_torchvisions(pair):
    theirs, ours = (network.eval() for network in pair)
    batch = images()
    heads, anchors = [], []
    hooks = [
        theirs.head.register_forward_hook(lambda _, __, output: heads.append(output)),
        theirs.anchor_generator.register_forward_hook(lambda _, __, output: anchors.append(output[0])),
    ]
    expected = theirs(list(batch))
    for hook in hooks:
        hook.remove()
    logits, deltas = ours(batch)
    assert logits.shape == (2, 8732, 6)  # the paper's number of default boxes
    torch.testing.assert_close(logits, heads[0]["cls_logits"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(deltas, heads[0]["bbox_regression"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours._outputs(batch)[1], anchors[0])
    found = ours.detect(batch, SIZES)
    assert sum(len(one["boxes"]) for one in found) > 20
    for own, other in zip(found, expected, strict=True):
        assert torch.equal(own["labels"], other["labels"] - 1)
        torch.testing.assert_close(own["scores"], other["scores"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(own["boxes"], other["boxes"], rtol=1e-5, atol=1e-3)


@pytest.mark.full
def test_losses_and_their_gradients_are_torchvisions(pair):
    theirs, ours = (network.train() for network in pair)
    targets = [
        {"boxes": torch.tensor([[10.0, 8, 160, 200], [170, 20, 290, 190], [20, 20, 60, 50]]),
         "labels": torch.tensor([0, 3, 4])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]  # fmt: skip
    batch = images()
    expected = theirs(list(batch), [{**one, "labels": one["labels"] + 1} for one in targets])
    found = ours.losses(batch, SIZES, targets)
    assert found["classification"].item() == pytest.approx(expected["classification"].item(), rel=1e-4)
    assert found["box"].item() == pytest.approx(expected["bbox_regression"].item(), rel=1e-4)
    for name in ("head.classification_head.module_list.0.weight", "head.regression_head.module_list.2.weight"):
        (own,) = torch.autograd.grad(sum(found.values()), ours.get_parameter(name), retain_graph=True)
        (other,) = torch.autograd.grad(sum(expected.values()), theirs.get_parameter(name), retain_graph=True)
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-5)


def test_published_counts():
    with torch.device("meta"):
        network = timm.create_model("ssd300_vgg16", num_classes=90)
    assert sum(p.numel() for p in network.parameters()) == 35_641_826  # torchvision's


def naive_loss(logits, deltas, classes, codes, negatives):
    """Image by image, sorted lists, in Python's floats."""
    total_class = total_box = count = 0.0
    row = 0
    for logit, delta, wanted in zip(logits.tolist(), deltas.tolist(), classes.tolist(), strict=True):
        empty = []
        positives = sum(label > 0 for label in wanted)
        for scores, moves, label in zip(logit, delta, wanted, strict=True):
            entropy = math.log(sum(math.exp(score) for score in scores)) - scores[label]
            if not label:
                empty.append(entropy)
                continue
            total_class += entropy
            for move, code in zip(moves, codes[row].tolist(), strict=True):
                gap = abs(move - code)
                total_box += 0.5 * gap * gap if gap < 1 else gap - 0.5
            row += 1
        total_class += sum(sorted(empty, reverse=True)[: int(negatives * positives)])
        count += positives
    return total_class / max(count, 1), total_box / max(count, 1)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 30), st.sampled_from([0.0, 1, 2.5, 3, 100]), st.floats(0, 1), st.integers(0, 99)
)
def test_loss_against_a_loop(count, anchors, negatives, share, seed):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, anchors, 4, generator=random, dtype=torch.float64)
    deltas = torch.randn(count, anchors, 4, generator=random, dtype=torch.float64) * 2
    classes = torch.randint(1, 4, (count, anchors), generator=random)
    classes[torch.rand(count, anchors, generator=random) >= share] = 0
    codes = torch.randn(int((classes > 0).sum()), 4, generator=random, dtype=torch.float64)
    found = multibox_loss(logits, deltas, classes, codes, negatives)
    expected = naive_loss(logits, deltas, classes, codes, negatives)
    assert found["classification"].item() == pytest.approx(expected[0], abs=1e-12)
    assert found["box"].item() == pytest.approx(expected[1], abs=1e-12)


def tiny(**options):
    torch.manual_seed(0)
    return timm.create_model("ssd_tiny", num_classes=3, image_size=64, channels=8, **options).double().eval()


def test_upon_the_same_features_losses_and_detections_are_torchvisions():
    """Without VGG-16, and with the background's rows drawn, so that the mined negatives differ from the first ones."""
    ours = tiny()
    for layer in ours.head.classification_head.module_list:
        torch.nn.init.normal_(layer.weight, std=0.3)
    theirs = torchvision_ssd.SSD(
        ours.backbone, ours.anchor_generator, (64, 64), 4, image_mean=[0.0] * 3, image_std=[1.0] * 3, head=ours.head
    )
    batch, sizes = images(2, (64, 64)).double(), [(64, 64)] * 2
    expected = theirs.eval()(list(batch))
    found = ours.detect(batch, sizes)
    assert sum(len(one["boxes"]) for one in found) > 20
    for own, other in zip(found, expected, strict=True):
        assert torch.equal(own["labels"], other["labels"] - 1)
        torch.testing.assert_close(own["scores"], other["scores"])
        torch.testing.assert_close(own["boxes"], other["boxes"])
    targets = [
        {"boxes": torch.tensor([[4.0, 6, 30, 40], [8, 10, 50, 60]]).double(), "labels": torch.tensor([0, 2])},
        {"boxes": torch.tensor([[20.0, 20, 31, 44]]).double(), "labels": torch.tensor([1])},
    ]
    theirs.train()
    ours.train()
    expected = theirs(list(batch), [{**one, "labels": one["labels"] + 1} for one in targets])
    found = ours.losses(batch, sizes, targets)
    assert found["classification"].item() == pytest.approx(expected["classification"].item(), rel=1e-9)
    assert found["box"].item() == pytest.approx(expected["bbox_regression"].item(), rel=1e-9)


def test_every_object_has_a_box_and_boxes_have_the_shapes_asked_for():
    """Squares of scale 0.18 and of the geometric mean with the next, at the centres of cells."""
    network = tiny(largest_ratio=1)
    _, anchors = network._outputs(torch.zeros(1, 3, 64, 64).double())
    assert len(anchors) == 2 * (8 * 8 + 4 * 4 + 2 * 2 + 1)
    sides = anchors[:, 2:] - anchors[:, :2]
    torch.testing.assert_close(sides[:, 0], sides[:, 1])
    first = 0.18 * 64 / 2
    assert anchors[0].tolist() == pytest.approx([4 - first, 4 - first, 4 + first, 4 + first], abs=1e-5)
    assert sides[1, 0].item() == pytest.approx(math.sqrt(0.18 * 0.3) * 64, rel=1e-6)
    counts = {ratio: len(tiny(largest_ratio=ratio)._outputs(torch.zeros(1, 3, 64, 64).double())[1]) for ratio in (2, 3)}
    assert counts == {2: 4 * 85, 3: 4 * 85 + 2 * 20}
    truth = torch.tensor([[1.0, 1, 5, 4], [10, 40, 60, 44]]).double()  # no default box has IoU 0.5 with them
    classes, codes = network._to_find(anchors, truth, torch.tensor([2, 0]))
    assert sorted(classes[classes > 0].tolist()) == [1, 3]
    assert codes.shape == (2, 4)


def test_images_of_other_sizes_are_warped_and_boxes_go_back():
    """A padded image, and the same image resized by hand, give the same boxes."""
    network = tiny()
    image = images(1, (40, 100)).double()
    batch = torch.nn.functional.pad(image, (0, 28, 0, 24))
    square = torch.nn.functional.interpolate(image, (64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(warped(batch, [(40, 100)], 64), square)
    assert ratios_to_square(batch, [(40, 100)], 64).tolist() == [[0.64, 1.6, 0.64, 1.6]]
    (found,), (other,) = network.detect(batch, [(40, 100)]), network.detect(square, [(64, 64)])
    assert len(found["boxes"])
    torch.testing.assert_close(found["boxes"], other["boxes"] * torch.tensor([100 / 64, 40 / 64] * 2))
    assert (found["boxes"][:, 2] <= 100 + 1e-9).all()
    assert (found["boxes"][:, 3] <= 40 + 1e-9).all()
    target = {"boxes": torch.tensor([[10.0, 5, 70, 35]]).double(), "labels": torch.tensor([1])}
    own = network.losses(batch, [(40, 100)], [target])
    same = network.losses(square, [(64, 64)], [{**target, "boxes": target["boxes"] * torch.tensor([0.64, 1.6] * 2)}])
    for name, loss in own.items():
        torch.testing.assert_close(loss, same[name])


def test_a_batch_without_objects_has_no_loss_and_gradients_of_zero():
    network = tiny().train()
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = network.losses(images(2, (64, 64)).double(), [(64, 64)] * 2, [empty, empty])
    assert [loss.item() for loss in losses.values()] == [0, 0]
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in network.parameters())


def test_wrong_sizes_and_stages_are_named():
    with torch.device("meta"):
        with pytest.raises(UserError, match=r"model.image_size=200: must be at least 268 for vgg16"):
            ssd.build(image_size=200)
        with pytest.raises(UserError, match=r"model.frozen_stages=6: must be from 0 to 5 for vgg16"):
            ssd.build(frozen_stages=6)
        ssd.build(image_size=268)
        frozen = ssd.build(frozen_stages=2)
    names = [name for name, p in frozen.named_parameters() if not p.requires_grad]
    assert names == [f"backbone.features.{i}.{kind}" for i in (0, 2, 5, 7) for kind in ("weight", "bias")]
