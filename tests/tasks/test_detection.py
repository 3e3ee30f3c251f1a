"""Detection: detectors get gradients, reload, take the options of their cards, leave metrics and pictures.

AP is in ``tests/detection/test_coco_ap.py``, resuming and golden losses in the shared contract.
"""

import csv

import pytest
import torch
from composed import compose

from paperzoo import cards
from paperzoo.errors import UserError
from paperzoo.papers import htc
from paperzoo.tasks.detection import at_size
from paperzoo.training import load_data, make_module, train


def test_boxes_go_back_to_the_stored_size():
    found = at_size({"boxes": torch.tensor([[10.0, 20, 30, 40]])}, (100, 50), (200, 25))
    assert found["boxes"].tolist() == [[5, 40, 15, 80]]


PAPERS = ["faster_rcnn", "mask_rcnn", "cascade_rcnn", "htc"]
FAST = ["logger=none", "trainer=cpu", "trainer.max_epochs=1", "trainer.threads=1", "data.images=12",
        "data.batch_size=4",
        "data.image_size=64", "model.channels=8", "model.hidden=16", "model.regions=8", "model.proposals=20",
        "checkpoint.every_seconds=null", "data.digit_size=[18,40]"]  # fmt: skip


def configured(paper, *words, runs=None):
    return compose("train", [f"model={paper}", *FAST, *words, *([f"paths.runs_dir={runs}"] if runs else [])])


@pytest.mark.parametrize("paper", PAPERS)
def test_every_parameter_gets_a_gradient_and_weights_reload(paper, tmp_path):
    config = configured(paper, "trainer.precision=64-true")
    data = load_data(config)
    module = make_module(config, data).train()
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    batch = batch._replace(inputs=batch.inputs.double())
    torch.manual_seed(0)
    losses = module.losses(batch)
    sum(losses.values()).backward()
    without = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without
    torch.save({"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}, tmp_path / "w.ckpt")
    content = torch.load(tmp_path / "w.ckpt", weights_only=True)
    again = type(module)(**content["hyper_parameters"]).double()
    again.load_state_dict(content["state_dict"])
    found, expected = (
        one.eval().network.detect(batch.inputs, [(64, 64)] * 4, score_threshold=0.01) for one in (again, module)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert sum(len(one["boxes"]) for one in found)


OTHER = {
    "backbone": "resnet10t", "channels": 12, "hidden": 24, "frozen_stages": 1, "norm_eval": True, "anchor_scale": 8.0,
    "proposals": 6, "regions": 4, "score_threshold": 0.5, "nms_threshold": 0.9, "max_detections": 3,
    "mask_stages": "last", "stages": 2, "interleaved": False, "mask_info_flow": False, "semantic_fusion": False,
}  # fmt: skip


@pytest.mark.parametrize("paper", ["faster_rcnn", "htc"])  # the others have no options beside these
def test_options_of_cards_reach_what_they_are_for(paper):
    """Each, set to another value, changes the weights, what is trained, the losses, or the detections."""
    options = [option.name for option in cards.load(paper).options]
    config = configured(paper)
    data = load_data(config)
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)

    def seen(**changes):
        model = type(config.model).model_validate({**config.model.model_dump(by_alias=True), **changes})
        module = make_module(config.model_copy(update={"model": model}), data).train()
        torch.manual_seed(0)
        losses = {name: round(value.item(), 6) for name, value in module.losses(batch).items()}
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        return losses, trained, module.detecting

    before = seen()
    for name in options:
        assert seen(**{name: OTHER[name]}) != before, name


def test_pictures_and_metrics_are_on_record(tmp_path):
    """Resuming equal is the shared contract's to test."""
    entry = train(configured("htc", "pictures=true", runs=tmp_path))
    assert [metric.name for metric in entry.task_metrics][::3] == ["mask_ap", "box_ap"]
    assert {"test/mask_ap", "test/box_ap50", "val/mask_ap"} <= set(entry.results["last"].metrics)
    (picture,) = tmp_path.glob("htc/*/1/figures/predictions.png")
    assert picture.stat().st_size > 10_000
    for kind in ("mask", "box"):
        assert (picture.parent / f"precision_recall_{kind}.png").stat().st_size > 10_000
    with (picture.parents[1] / "average_precision.csv").open() as file:
        rows = {(row["kind"], row["class"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2 * 11  # ten digits and their mean
    for kind in ("mask", "box"):
        expected = entry.results["last"].metrics[f"test/{kind}_ap"]
        assert float(rows[kind, "mean"]["ap"]) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_maps_are_needed_for_the_semantic_branch(tmp_path):
    module = make_module(config := configured("htc"), data := load_data(config))
    assert module.network.semantic_head.logits.out_channels == 14
    data.source.stuff.clear()
    with pytest.raises(UserError, match=r"model.semantic_fusion=true: the data has no label for each pixel"):
        make_module(config, data)
    without = make_module(configured("htc", "model.semantic_fusion=false"), data)
    assert isinstance(without.network, htc.HTC)


def test_half_precision_trains_with_clipped_gradients(tmp_path):
    """Detectors' gradients are clipped by default; Lightning refuses that to fused optimisers of mixed precision."""
    words = ["model=retinanet", "model.channels=8", "data.images=8", "data.batch_size=4", "trainer.max_epochs=1"]
    config = compose("train", [*words, "trainer=cpu", "trainer.precision=bf16-mixed", "logger=none",
                               "trainer.limit_test_batches=1", f"paths.runs_dir={tmp_path}"])  # fmt: skip
    assert config.trainer.gradient_clip_val
    record = train(config)
    assert record.status == "finished"
