"""Schedules against hand-computed values and torch's own."""

import math

import pytest
import torch
from composed import compose

from paperzoo.tasks import schedules
from paperzoo.training import train


def rates(factor, steps: int) -> list[float]:
    """What LambdaLR really sets, from a base rate of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_cosine_equals_torch_without_warmup():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.1)
    expected = []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    got = rates(schedules.cosine(total_steps=20, steps_per_epoch=5, final=0.1), 20)
    assert got == pytest.approx(expected, abs=1e-12)


def test_cosine_begins_at_the_base_rate_when_warmup_ends():
    got = rates(schedules.cosine(total_steps=12, steps_per_epoch=2, warmup_epochs=2, warmup_start=0.2), 12)
    assert got[:5] == pytest.approx([0.4, 0.6, 0.8, 1.0, 1.0])  # 0.2 + 0.8 t / 4, then (1 + cos 0) / 2
    assert got[8] == pytest.approx((1 + math.cos(math.pi * 4 / 8)) / 2)


def test_step_drops_at_the_milestone_itself_and_counts_from_the_start():
    factor = schedules.step(total_steps=40, steps_per_epoch=4, milestones=[2, 5.5], gamma=0.1, warmup_epochs=1)
    got = rates(factor, 40)
    assert got[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert got[4:8] == pytest.approx([1.0] * 4)
    assert got[8:22] == pytest.approx([0.1] * 14)
    assert got[22:] == pytest.approx([0.01] * 18)


def test_constant_stays():
    assert rates(schedules.constant(total_steps=5, steps_per_epoch=1), 5) == [1.0] * 5


def test_poly_equals_torch():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=15, power=0.9)
    expected = []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    got = rates(schedules.poly(total_steps=15, steps_per_epoch=5, power=0.9), 20)
    assert got == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("spared", ["true", "false"])  # one group of parameters, and two
def test_a_plateau_lowers_the_rate_of_a_run_as_its_metric_says(spared, tmp_path):
    words = [
        "model=resnet", "model.depth=11", "model.width=4", "trainer=cpu", "trainer.max_epochs=6", "logger=none",
        "data.limit_train=64", "data.batch_size=16", "data.validation=50", "data.test=50", f"paths.runs_dir={tmp_path}",
        "scheduler=plateau", "scheduler.patience=0", f"optimizer.decay_norms_and_biases={spared}",
        "optimizer.lr=1e-9",  # nothing is learned, so that the metric stays where it is
    ]  # fmt: skip
    rows = train(compose("train", words)).epochs
    best, waited, scale = float("-inf"), 0, 1.0
    for row in rows:
        assert row["lr"] == pytest.approx(1e-9 * scale, rel=1e-9)
        best, waited = (row["val/top1"], 0) if row["val/top1"] > best else (best, waited + 1)
        if waited > 0:
            scale, waited = scale * 0.1, 0
    assert scale < 1


def test_a_plateau_takes_an_undefined_metric_for_no_improvement():
    schedule = schedules.Plateau(warmup=0, start=0.0, factor=0.1, patience=1)
    for value in (float("nan"), 0.5, float("nan"), 0.6):
        schedule.observe(value, "max")
    assert (schedule.best, schedule.waited, schedule(0)) == (0.6, 0, 1.0)
    for _ in range(2):
        schedule.observe(float("nan"), "max")
    assert schedule(0) == 0.1


@pytest.mark.parametrize("options", [{}, {"pct_start": 0.1, "div_factor": 10.0, "final_div_factor": 100.0}])
def test_one_cycle_equals_torch(options):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=40, cycle_momentum=False, **options
    )
    expected = []
    for _ in range(39):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    got = rates(schedules.one_cycle(total_steps=40, steps_per_epoch=4, **options), 39)
    assert got == pytest.approx(expected, abs=1e-12)
