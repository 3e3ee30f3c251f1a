"""Recipes as choices of a run: schedules in epochs, the long-tailed subset, and what composes with any model."""

import itertools
import json
import math

import pytest
import torch
from composed import compose

from paperzoo.config import dump, load_config
from paperzoo.data.interface import make_data
from paperzoo.errors import UserError
from paperzoo.papers.cosine_decay.choices import warmup_cosine, warmup_step
from paperzoo.papers.focal_loss.long_tailed import long_tailed, subset
from paperzoo.runs.identity import code_of
from paperzoo.tasks.making import make_module
from paperzoo.training import train

SMALL = ["trainer=cpu", "trainer.max_epochs=1", "logger=none", "data.limit_train=64", "data.batch_size=16",
         "data.validation=50", "data.test=50", "model.width=4"]  # fmt: skip


def test_warmup_begins_at_zero_and_the_decay_at_the_base():
    """10 steps an epoch, 40 in all, half an epoch of warm-up."""
    factor = warmup_cosine(total_steps=40, steps_per_epoch=10, warmup_epochs=0.5, final=0.1)
    assert [factor(step) for step in range(6)] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert factor(20) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 15 / 35)) / 2)
    assert factor(40) == 0.1


def test_by_epoch_the_decay_keeps_what_an_epoch_began_with():
    options = {"total_steps": 40, "steps_per_epoch": 10, "warmup_epochs": 0.5}
    smooth, stairs = warmup_cosine(**options), warmup_cosine(**options, each="epoch")
    assert [stairs(step) for step in range(5)] == [smooth(step) for step in range(5)]
    assert {stairs(step) for step in range(5, 10)} == {1.0}  # this epoch's decay begins where warm-up ends
    for epoch in (1, 2, 3):
        assert {stairs(10 * epoch + step) for step in range(10)} == {smooth(10 * epoch)}


def test_restarts_in_epochs():
    factor = warmup_cosine(total_steps=80, steps_per_epoch=10, warmup_epochs=1, cycle_epochs=1, cycle_factor=2)
    assert [step for step in range(10, 80) if factor(step) == 1] == [10, 20, 40]  # cycles of 1, 2 and 4 epochs
    assert factor(15) == pytest.approx(0.5)
    assert factor(30) == pytest.approx(0.5)


def test_milestones_count_from_the_beginning():
    factor = warmup_step(total_steps=60, steps_per_epoch=10, milestones=[2, 4.5], gamma=0.1, warmup_epochs=1)
    assert (factor(0), factor(5), factor(10), factor(19)) == (0, 0.5, 1, 1)
    assert [factor(step) for step in (20, 44, 45)] == pytest.approx([0.1, 0.1, 0.01])


def test_another_start_is_refused():
    with pytest.raises(UserError, match=r"scheduler\.warmup_start=0\.1: this warm-up begins at 0"):
        warmup_cosine(total_steps=40, steps_per_epoch=10, warmup_epochs=1, warmup_start=0.1)
    with pytest.raises(UserError, match=r"scheduler\.each=week: must be one of step, epoch"):
        warmup_step(total_steps=40, steps_per_epoch=10, milestones=[1], gamma=0.1, each="week")


def test_a_run_has_the_rates_of_the_closed_form_under_accumulation(tmp_path):
    """64 images in batches of 16, two of them a step: 2 steps an epoch, 6 in all, 2 of warm-up."""
    words = [*SMALL, "model=cosine_decay", "trainer.max_epochs=3", "trainer.accumulate_grad_batches=2",
             "trainer.log_every_n_steps=1", "optimizer.lr=0.2", f"paths.runs_dir={tmp_path}"]  # fmt: skip
    entry = train(compose("train", words))
    expected = [0.2 * 0.5, 0.2 * (1 + math.cos(math.pi / 4)) / 2, 0.2 * (1 + math.cos(3 * math.pi / 4)) / 2]
    assert [row["lr"] for row in entry.epochs] == pytest.approx(expected)  # of each epoch's last step: 1, 3, 5


def test_a_long_tail_by_hand():
    """Of 100 samples a class at a ratio of 0.01: 100, 10 and 1; a class that has fewer keeps what it has."""
    labels = torch.tensor([0] * 100 + [1] * 100 + [2] * 100)
    kept = subset(labels, 0.01, seed=0)
    assert labels[kept].bincount().tolist() == [100, 10, 1]
    assert len(kept.unique()) == len(kept)
    assert (
        subset(torch.tensor([0] * 100 + [1] * 4 + [2] * 100), 0.25, seed=0).bincount(minlength=204)[100:104].sum() == 4
    )
    assert torch.equal(subset(labels, 1.0, seed=0), torch.arange(300))
    assert not torch.equal(kept, subset(labels, 0.01, seed=1))


def test_epochs_visit_one_subset_in_different_orders_and_ranks_share_it():
    labels = torch.arange(10).repeat_interleave(50)
    orders = [long_tailed(500, labels, 3, epoch, 16, 2, ratio=0.1) for epoch in (0, 1)]
    assert torch.equal(orders[0].sort().values, orders[1].sort().values)
    assert not torch.equal(*orders)
    counts = labels[orders[0]].bincount()
    assert (counts[0], counts[9]) == (50, 5)
    assert all(a >= b for a, b in itertools.pairwise(counts))


def test_what_a_long_tail_cannot_be_made_of():
    with pytest.raises(UserError, match="has no class for each training sample"):
        long_tailed(10, None, 0, 0, 4, 1)
    with pytest.raises(UserError, match=r"sampler\.ratio=0\.01: keeps 11 of 20 samples, a batch of 8 on 2"):
        long_tailed(20, torch.tensor([0] * 10 + [1] * 10), 0, 0, 8, 2, ratio=0.01)
    with pytest.raises(UserError, match=r"sampler\.ratio=1\.5: must be above 0 and at most 1"):
        subset(torch.arange(4), 1.5, 0)


def test_a_training_loader_of_a_long_tail():
    config = compose("train", [*SMALL, "model=focal_loss", "data.limit_train=200", "sampler.ratio=0.2"])
    data = make_data(config)
    seen = torch.cat([batch[1] for batch in data.train_dataloader()]).bincount(minlength=10)
    assert seen[0] > 2 * seen[9] > 0


CHOICES = ["mix=mixup_paper", "loss=smoothing", "loss=focal", "scheduler=warmup_cosine", "scheduler=warmup_step",
           "sampler=long_tailed"]  # fmt: skip
CHOSEN = {"sampler=long_tailed": ["sampler.ratio=0.5", "data.limit_train=200"],
          "scheduler=warmup_step": ["scheduler.milestones=[0.5]"]}  # fmt: skip


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_goes_with_another_model_and_survives_the_record(choice):
    config = compose("train", [*SMALL, "model=senet", choice, *CHOSEN.get(choice, [])])
    assert load_config(json.loads(json.dumps(dump(config)))) == config
    data = make_data(config)
    module = make_module(config, data)
    module.running = module.make_running()
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    loss = sum(module.losses(batch).values())
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize("words", [["model=resnet"], ["model=bagging", "model.members=2"]])
def test_training_accuracy_of_mixed_images_counts_both_labels_with_any_model(words):
    """``λ [ŷ = y_a] + (1 - λ) [ŷ = y_b]``: the share of the target that the predicted class has."""
    config = compose("train", [*SMALL, *words, "mix=mixup_paper", "loss=cross_entropy"])
    data = make_data(config)
    module = make_module(config, data)
    module.running = module.make_running()
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    torch.manual_seed(1)
    images, targets = module.mixed(batch)
    logits = module(images)
    torch.manual_seed(1)
    losses = module.losses(batch)
    module.running.update(sum(losses.values()).detach(), {}, len(images))
    expected = sum(float(t[int(row.argmax())]) for t, row in zip(targets, logits, strict=True)) / len(images)
    assert targets.count_nonzero() > len(images)  # something was mixed
    assert module.running.read()["top1"] == pytest.approx(expected, abs=1e-5)


def test_the_old_words_choose_what_they_chose():
    mix, loss, scheduler = (
        getattr(compose("train", ["model=resnet", f"{group}={word}"]), group)
        for group, word in (("mix", "mixup"), ("loss", "label_smoothing"), ("scheduler", "cosine"))
    )
    assert mix.target == "torchvision.transforms.v2.MixUp"
    assert loss.target == "torch.nn.CrossEntropyLoss"
    assert scheduler.target == "paperzoo.tasks.schedules.cosine"


def test_the_code_of_a_choice_is_in_the_identity_of_its_run():
    files = code_of(compose("train", ["model=resnet", "mix=mixup_paper"]))
    assert "paperzoo/papers/mixup/mixup.py" in files
    assert "paperzoo/papers/mixup/mixup.py" not in code_of(compose("train", ["model=resnet"]))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["model=mixup", "mix.alpha=-1"], "mix.alpha=-1: must be at least 0"),
        (["model=label_smoothing", "loss.convention=x"], "loss.convention=x: must be one of uniform, others, classy"),
        (["model=focal_loss", "loss.alpha=[-1.0]"], "loss.alpha"),
        (["model=cosine_decay", "scheduler.warmup_start=0.5"], "scheduler.warmup_start=0.5: must be at most 0"),
        (["model=cosine_decay", "scheduler.gamma=0.1"], "scheduler.gamma=0.1: there is no such key"),
        (
            ["model=cosine_decay", "scheduler=warmup_step", "scheduler.milestones=[4,30]"],
            "scheduler.milestones=[4,30]: 30 is not before trainer.max_epochs=12",
        ),
        (["model=resnet", "mix=mixup_paper", "data.batch_size=1"], "mixing needs at least two images"),
    ],
)
def test_mistakes_are_refused_at_composition(words, line):
    with pytest.raises(UserError) as caught:
        compose("train", words)
    assert line in str(caught.value)
