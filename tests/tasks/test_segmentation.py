"""Segmentation: metrics against a naive count of pixels, each once over the ranks; runs resume and repeat equal."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from composed import compose
from interruption import stopped_by
from pixels import batch, naive

from paperzoo.errors import Interrupted, UserError
from paperzoo.evaluation import evaluate
from paperzoo.reproduction import reproduce
from paperzoo.runs import checkpoints, compare, record
from paperzoo.tasks.segmentation import IGNORED, RunningMaps
from paperzoo.training import load_data, make_module, train

WORDS = ["model=strip_pooling", "data=digit_maps", "model.width=4", "trainer=cpu", "trainer.max_epochs=2",
         "logger=none",
         "data.limit_train=64", "data.batch_size=16", "data.validation=50", "data.test=53",
         "data.eval_batch_size=20"]  # fmt: skip


def test_running_metrics_count_every_labelled_pixel_once():
    batches = [batch(seed, count=4 - seed % 2) for seed in range(5)]
    running = RunningMaps(window=2, num_classes=6, device=torch.device("cpu"))
    for index, (logits, labels) in enumerate(batches):
        running.add(logits, labels)
        loss = F.cross_entropy(logits, labels)
        running.update(loss, {"loss": loss}, len(labels))
        if running.full:
            running.read()
        if index == 2:  # within a window
            state = running.state_dict()
            running = RunningMaps(window=2, num_classes=6, device=torch.device("cpu"))
            running.load_state_dict(state)
    running.read()
    expected = naive(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
    got = running.epoch()
    assert {k: got[k] for k in got if k != "loss"} == pytest.approx({k: expected[k] for k in got if k != "loss"})
    images = [len(labels) for _, labels in batches]
    means = [float(F.cross_entropy(*each)) for each in batches]
    assert got["loss"] == pytest.approx(np.average(means, weights=images), rel=1e-6)


def module_and_data(*words: str):
    config = compose("train", [*WORDS, *words])
    data = load_data(config)
    return make_module(config, data), data


def test_losses_leave_ignored_pixels_out_and_add_the_auxiliary_scorers():
    module, data = module_and_data("loss=cross_entropy")
    images, labels, *_ = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert (labels == IGNORED).any()
    module.eval()  # no dropout
    logits, loss = module.logits_and_loss(images, labels)
    both = module.network.forward_both(images)
    torch.testing.assert_close(logits, both[0])
    first, second = (naive(part, labels)["loss"] for part in both)
    assert float(loss) == pytest.approx(first + 0.4 * second, rel=1e-5)
    nothing = torch.full_like(labels, IGNORED)
    _, loss = module.logits_and_loss(images, nothing)
    loss.backward()
    assert float(loss) == 0
    assert all(p.grad.abs().max() == 0 for p in module.network.head.parameters())


def test_one_image_of_one_pixel_is_one_line():
    module, _ = module_and_data("model.network=spnet_small", "model.spm=none", "model.mpms=0")
    with pytest.raises(UserError, match=r"1 image of 1x1: .* BatchNorm cannot train on a batch of 1"):
        module.logits_and_loss(torch.rand(1, 1, 1, 1), torch.zeros(1, 1, 1, dtype=torch.int64))


@pytest.mark.parametrize("words", [["model.network=spnet_small", "model.auxiliary=0"], ["norm=group"]])
def test_options_reach_the_parser(words):
    module, data = module_and_data(*words)
    assert type(module.network).__name__ == "SPNet"
    assert (module.network.aux_head is None) == ("model.auxiliary=0" in words)
    images, labels, *_ = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    module.logits_and_loss(images, labels)[1].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_a_parser_does_not_take_labels_of_images():
    config = compose("train", ["model=strip_pooling", "model.network=spnet_small", "data.limit_train=64"])
    with pytest.raises(UserError, match=r"model.network=spnet_small: labels pixels, this data labels images; use"):
        make_module(config, load_data(config))


def test_a_run_resumes_equal_is_evaluated_equal_and_is_reproduced(tmp_path, capsys):
    alone = train(compose("train", [*WORDS, "pictures=true", f"paths.runs_dir={tmp_path / 'alone'}"]))
    words = [*WORDS, "resume=auto", f"paths.runs_dir={tmp_path / 'stopped'}"]
    with stopped_by(signal.SIGTERM, after_steps=6), pytest.raises(Interrupted):
        train(compose("train", words))
    resumed = train(compose("train", words))
    assert [segment.from_step for segment in resumed.segments] == [0, 6]
    assert compare.first_difference(alone, resumed) is None

    folder: Path = tmp_path / "alone" / "strip_pooling" / alone.identity / "1"
    for name in ("learning_curves", "confusion_matrix", "predictions"):
        assert (folder / "figures" / f"{name}.png").stat().st_size > 5000
    shown = capsys.readouterr().out
    assert "train miou" in shown
    assert "val miou" in shown
    again = evaluate(compose("evaluate", [f"run={alone.id}", f"paths.runs_dir={tmp_path / 'alone'}"]))
    on_record = record.read(folder).results["last"].metrics
    assert again == {name: value for name, value in on_record.items() if name.startswith("test/")}

    module, data = module_and_data()
    module.load_state_dict(checkpoints.load(folder / "checkpoints" / "last.ckpt")["state_dict"])
    module.eval()
    with torch.no_grad():
        batches = [data.on_after_batch_transfer(each, 0) for each in data.test_dataloader()]
        logits = torch.cat([module(each.inputs) for each in batches])
    expected = naive(logits, torch.cat([each.targets for each in batches]))
    assert again == pytest.approx({f"test/{name}": value for name, value in expected.items()}, rel=1e-5)
    assert reproduce(alone.id, str(tmp_path / "alone"), "data", None) == 0


def test_weighted_images_share_the_mean_over_labelled_pixels():
    module, _ = module_and_data("loss=cross_entropy")
    logits, labels = batch(3, count=4)
    plain = module.mean_loss(logits, labels)
    torch.testing.assert_close(module.mean_loss(logits, labels, torch.ones(4)), plain)
    weights = torch.tensor([0.0, 2.0, 1.0, 0.5])
    each = F.cross_entropy(logits.double(), labels, reduction="none", ignore_index=IGNORED)
    expected = (
        sum(w * float(loss.sum()) for w, loss in zip(weights.tolist(), each, strict=True)) / (labels != IGNORED).sum()
    )
    assert float(module.mean_loss(logits, labels, weights)) == pytest.approx(float(expected), rel=1e-5)
