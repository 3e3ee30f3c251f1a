"""Faster R-CNN: with torchvision's weights it computes what torchvision's own computes."""

import pytest
import timm
import torch
import torchvision
from torch.nn import BatchNorm2d

from paperzoo.errors import UserError
from paperzoo.papers import faster_rcnn

SIZES = [(96, 128), (96, 128)]  # theirs resizes all to one shorter side


@pytest.fixture(scope="module")
def pair():
    """Theirs, and ours with its weights; batch normalisation with statistics of its own."""
    torch.manual_seed(0)
    theirs = torchvision.models.detection.fasterrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=6,
        min_size=96,
        max_size=128,
        _skip_resize=True,  # in training, where it would draw a size
        image_mean=[0.0, 0.0, 0.0],
        image_std=[1.0, 1.0, 1.0],
        rpn_pre_nms_top_n_train=120,
        rpn_post_nms_top_n_train=120,
        rpn_pre_nms_top_n_test=60,
        rpn_post_nms_top_n_test=60,
        box_batch_size_per_image=32,
    )
    for module in theirs.modules():
        if isinstance(module, BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.eval()
    torch.nn.init.normal_(theirs.roi_heads.box_predictor.cls_score.weight, std=0.05)
    ours = faster_rcnn.build(5, proposals=120, regions=32)
    faster_rcnn.load_official(ours, theirs.state_dict())
    return theirs, ours


def images():
    return torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(1))


def test_detections_are_torchvisions(pair):
    theirs, ours = (network.eval() for network in pair)
    batch = images()
    with torch.no_grad():
        expected = theirs(list(batch))
    found = ours.detect(batch, SIZES)
    assert sum(len(one["boxes"]) for one in found)
    for own, other in zip(found, expected, strict=True):
        assert torch.equal(own["labels"], other["labels"] - 1)
        torch.testing.assert_close(own["scores"], other["scores"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(own["boxes"], other["boxes"], rtol=1e-5, atol=1e-3)


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
    torch.manual_seed(3)
    expected = theirs(list(batch), [{**one, "labels": one["labels"] + 1} for one in targets])
    torch.manual_seed(3)
    found = ours.train().losses(batch, SIZES, targets)
    names = {"rpn_objectness": "loss_objectness", "rpn_box": "loss_rpn_box_reg",
             "classification": "loss_classifier", "box": "loss_box_reg"}  # fmt: skip
    assert set(found) == set(names)
    for own, other in names.items():
        assert found[own].item() == pytest.approx(expected[other].item(), rel=1e-4), own
    assert found["box"].item() > 0


def test_published_counts():
    with torch.device("meta"):
        network = timm.create_model("faster_rcnn_r50_fpn", num_classes=90)
    assert sum(p.numel() for p in network.parameters()) == 41_808_406  # torchvision's, its normalisation counted


def test_grey_images_are_refused_by_name():
    with pytest.raises(UserError, match="in_chans=1: detectors take images of 3 channels"):
        timm.create_model("faster_rcnn_tiny", in_chans=1)
