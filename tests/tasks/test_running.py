"""The running metrics against a naive count over all samples."""

import math

import pytest
import torch

from paperzoo.errors import NonFiniteLoss
from paperzoo.tasks.classification import RunningTop

CPU = torch.device("cpu")


def batches(count: int, size: int, classes: int):
    generator = torch.Generator().manual_seed(3)
    for index in range(count):
        n = size if index else size - 3  # unequal batches: a mean of means would be wrong
        logits = torch.randn(n, classes, generator=generator)
        labels = torch.randint(classes, (n,), generator=generator)
        yield torch.nn.functional.cross_entropy(logits, labels), logits, labels


def naive(data) -> dict[str, float]:
    losses, top1, top5, images = 0.0, 0, 0, 0
    for loss, logits, labels in data:
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
            order = sorted(range(len(row)), key=lambda k, row=row: -row[k])
            top1 += order[0] == label
            top5 += label in order[:5]
            losses += loss.item()
            images += 1
    return {"loss": losses / images, "top1": top1 / images, "top5": top5 / images}


def update(running: RunningTop, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
    running.add(logits, labels)
    running.update(loss, {"loss": loss}, len(labels))


def test_epoch_means_count_every_sample_once():
    data = list(batches(7, 16, 10))
    running = RunningTop(3, 10, CPU)
    for step in data:
        update(running, *step)
        if running.full:
            running.read()
    running.read()
    assert running.epoch() == pytest.approx(naive(data), rel=1e-6)


def test_a_window_holds_only_what_came_since_the_last_reading():
    data = list(batches(4, 16, 10))
    running = RunningTop(2, 10, CPU)
    for step in data[:2]:
        update(running, *step)
    running.read()
    for step in data[2:]:
        update(running, *step)
    assert running.read() == pytest.approx(naive(data[2:]), rel=1e-6)


def test_state_in_the_middle_of_a_window_goes_on_exactly():
    data = list(batches(5, 16, 10))
    whole, first, second = (RunningTop(4, 10, CPU) for _ in range(3))
    for step in data[:3]:
        update(first, *step)
    second.load_state_dict(first.state_dict())
    for running, steps in ((whole, data), (second, data[3:])):
        for step in steps:
            update(running, *step)
            if running.full:
                running.read()
        running.read()
    assert second.epoch() == whole.epoch()


def test_top5_is_left_out_where_it_says_nothing():
    running = RunningTop(2, 5, CPU)
    update(running, *next(batches(1, 16, 5)))
    assert set(running.read()) == {"loss", "top1"}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("at_once", "batches_ago"), [(True, 0), (False, 3)])
def test_a_loss_that_is_not_finite_names_its_step_and_the_last_finite_one(bad, at_once, batches_ago):
    running = RunningTop(8, 10, CPU)
    running.looks_at_once = at_once
    logits, labels = torch.zeros(2, 10), torch.zeros(2, dtype=torch.int64)

    def five_steps():
        for loss in (1.5, 2.5, bad, 0.5, 0.5):
            update(running, torch.tensor(loss), logits, labels)
        running.read()

    with pytest.raises(NonFiniteLoss) as caught:
        five_steps()
    assert caught.value.last_finite == 2.5
    assert caught.value.batches_ago == batches_ago


@pytest.mark.parametrize("window", [2, 4, 20])
def test_a_resumed_run_may_read_its_metrics_at_another_interval(window):
    """trainer.log_every_n_steps is not part of a run's identity."""
    saved, resumed = RunningTop(20, 10, CPU), RunningTop(window, 10, CPU)
    for batch in batches(4, 16, 10):
        update(saved, *batch)
    resumed.load_state_dict(saved.state_dict())
    for batch in batches(3, 16, 10):
        update(saved, *batch)
        update(resumed, *batch)
        if resumed.full:
            resumed.read()
    if resumed.counts:
        resumed.read()
    saved.read()
    assert resumed.epoch() == pytest.approx(saved.epoch(), rel=1e-15)
